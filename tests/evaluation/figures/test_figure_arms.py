"""Figures of the arms of a recipe."""

import pytest
from figure_samples import assert_picture
from matplotlib.axes import Axes

from pe_unified.evaluation import figures
from pe_unified.evaluation.intervals import Difference

NAN = float("nan")


def test_steps_set_reused_arms_off_and_say_undefined(tmp_path, texts, monkeypatch):
    bars = []
    draw = Axes.barh
    monkeypatch.setattr(
        Axes, "barh", lambda *args, **kw: bars.append((args[2], kw)) or draw(*args, **kw)
    )
    steps = [
        dict(name="s2_seg", reused=[], metrics={"seg/iou": 0.34, "seg/iou_ci": [0.2, 0.4]}),
        dict(name="s5_seg_reused", reused=[{}], metrics={"seg/iou": 0.7, "seg/iou_ci": None}),
        dict(name="s9_unified", reused=[{}], metrics={"seg/iou": None, "seg/iou_ci": [None] * 2}),
        dict(name="s1_cls", reused=[], metrics={"cls/auc": 0.9}),
    ]
    figures.step_figure(steps, tmp_path / "iou.png", ["seg/iou"])
    assert_picture(tmp_path / "iou.png")
    (scratch, plain), (reused, hatched) = bars
    assert (scratch, reused) == (0.34, 0.7)
    assert "hatch" in hatched and "hatch" not in plain
    assert plain["color"] != hatched["facecolor"]
    assert {"0.34 [0.20, 0.40]", "0.70", "undefined", "s5_seg_reused"} <= set(texts)
    assert "s1_cls" not in texts
    with pytest.raises(ValueError, match="no step"):
        figures.step_figure(steps, tmp_path / "none.png", ["det/mAP"])


def test_seeds(tmp_path, texts):
    values = {
        "cls/auc": {"scratch": [0.8, 0.9, 0.7], "reused": [0.9, 0.95, None]},
        "seg/iou": {"scratch": [0.3], "reused": [0.5, 0.7]},
    }
    figures.seed_figure(values, tmp_path / "seeds.pdf", reused=["reused"])
    assert (tmp_path / "seeds.pdf").read_bytes().startswith(b"%PDF")
    assert {"0.800", "0.925", "0.300", "0.600"} <= set(texts)
    with pytest.raises(ValueError, match="no metric"):
        figures.seed_figure({}, tmp_path / "none.png")


def test_differences(tmp_path, texts):
    gains = {
        "cls/auc": Difference(0.08, 0.05, 0.11, 0.01),
        "seg/iou": Difference(-0.02, -0.07, 0.03, 0.4),
        "seg/dice": Difference(0.02, NAN, NAN, NAN),
    }
    figures.difference_figure(gains, tmp_path / "gain.png")
    assert_picture(tmp_path / "gain.png")
    minus = "\N{MINUS SIGN}"
    assert {f"{minus}0.020 [{minus}0.070, +0.030]", "+0.020"} <= set(texts)
    with pytest.raises(ValueError, match="no difference"):
        figures.difference_figure({}, tmp_path / "none.png")


@pytest.mark.parametrize(
    ("seeds", "filled", "said"),
    [
        (None, True, "interval without zero"),
        ([0.02, 0.14], True, "interval without zero, every seed on its side"),
        ([-0.02, 0.18], False, "one seed"),
    ],
)
def test_a_difference_is_clear_where_every_seed_is_on_its_side(
    tmp_path, texts, monkeypatch, seeds, filled, said
):
    dots, ticks, draw = [], [], Axes.plot

    def spy(axes, x, y, *args, **style):
        if args == ("|",):
            ticks.extend(x)
        if args == ("o",):
            dots.append(style["color"] != "white")
        return draw(axes, x, y, *args, **style)

    monkeypatch.setattr(Axes, "plot", spy)
    gains = {"cls/auc": Difference(0.08, 0.05, 0.11, 0.01)}
    marks = None if seeds is None else {"cls/auc": seeds}
    figures.difference_figure(gains, tmp_path / "gain.png", seeds=marks)
    assert dots == [filled] and said in texts and ticks == (seeds or [])


def test_what_is_equal_in_both_arms_shows_in_the_form_of_the_dot(tmp_path, texts, monkeypatch):
    forms, draw = [], Axes.plot

    def spy(axes, x, y, *args, **style):
        if args and args[0] in ("o", "s", "^"):
            forms.append((args[0], y))
        return draw(axes, x, y, *args, **style)

    monkeypatch.setattr(Axes, "plot", spy)
    labels = ["seg/iou: s5 - s2", "seg/iou: s5 - s2_long", "cls/auc: s9 - s1"]
    gains = {label: Difference(0.08, 0.05, 0.11, 0.01) for label in labels}
    equal = dict(zip(labels, ("step", "total", "neither")))
    figures.difference_figure(gains, tmp_path / "gain.png", equal=equal)
    assert_picture(tmp_path / "gain.png")
    assert [form for form, _ in forms] == ["o", "s", "^"]
    first, second, third = (height for _, height in forms)
    assert third - second > second - first
    assert {"equal iterations in all", "neither equal"} <= set(texts)
