"""Figures are whole, named, and show what they were given; how they look is for the eye."""

from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from mmengine.structures import InstanceData, PixelData
from sklearn.calibration import calibration_curve

from pe_unified.ct.hu import write_slice_png
from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.evaluation import figures
from pe_unified.evaluation.calibration import expected_calibration_error
from pe_unified.evaluation.detection import DetTable, match_slice
from pe_unified.evaluation.exams import ExamTable
from pe_unified.evaluation.figures import overlays as figure_overlays
from pe_unified.evaluation.figures.curves import roc_band
from pe_unified.evaluation.figures.style import footer, new_figure
from pe_unified.evaluation.froc import LesionTable
from pe_unified.evaluation.intervals import Difference
from pe_unified.evaluation.slices import SliceTable, roc_points


@pytest.fixture
def texts(monkeypatch) -> list[str]:
    """Every text of the figures that are written, in no order."""
    seen: list[str] = []
    save = Figure.savefig

    def spy(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
        seen.extend(artist.get_text() for artist in found)

    monkeypatch.setattr(Figure, "savefig", spy)
    return seen


def slice_table(positives: bool = True) -> SliceTable:
    generator = np.random.default_rng(0)
    label = (generator.random(80) < 0.4) & positives
    score = np.clip(0.4 * label + 0.6 * generator.random(80), 0, 1)
    return SliceTable.build([f"P{index % 6}" for index in range(80)], label, score)


def det_table(boxes: bool = True) -> DetTable:
    box = np.array([[0.0, 0, 10, 10]])
    matches = [match_slice(box[: int(boxes)], box + 0.1 * i, [0.9 - i / 20]) for i in range(8)]
    return DetTable.build([f"P{index % 4}" for index in range(8)], matches)


def lesion_table() -> LesionTable:
    distances = [np.array([[1.0], [30.0]])] * 3
    return LesionTable.build(list("abc"), [np.array([0.8, 0.6])] * 3, distances, 5.0)


def a_view(**changes) -> figures.SliceView:
    hu = np.full((60, 80), 40, dtype=np.int16)
    truth, found = np.zeros((2, 60, 80), dtype=bool)
    truth[20:30, 30:40] = True
    found[22:32, 31:41] = True
    fields = dict(
        hu=hu,
        patient="PAT007",
        slice_index=12,
        truth_mask=truth,
        predicted_mask=found,
        truth_boxes=np.array([[30.0, 20, 40, 30]]),
        predicted_boxes=np.array([[31.0, 22, 41, 32]]),
        box_scores=np.array([0.87]),
        label=True,
        probability=0.91,
    )
    return figures.SliceView(**(fields | changes))


def assert_picture(path) -> None:
    picture = cv2.imread(str(path))
    assert picture is not None and min(picture.shape[:2]) > 200
    assert picture.std() > 5, "the picture is blank"
    assert [one.name for one in path.parent.iterdir()] == [path.name], "a part was left behind"


def test_roc(tmp_path, texts):
    path = tmp_path / "figures" / "roc.png"
    arms = {"scratch": slice_table(), "one-sided": slice_table(positives=False)}
    figures.roc_figure(arms, path, {"scratch": 0.5}, note="Synthetic data", resamples=50)
    assert_picture(path)
    assert f"Synthetic data. {RESEARCH_LINE}." in texts
    assert any(text.startswith("scratch: AUC 0.") and "[" in text for text in texts)
    assert "one-sided: one class only" in texts


def test_roc_band_encloses_the_curve_and_is_absent_for_one_patient():
    table = slice_table()
    low, high = roc_band(table, 300)
    assert (low <= high).all() and (high - low).max() > 0.05
    fpr, sensitivity, _ = roc_points(table.score, table.label)
    curve = sensitivity[np.searchsorted(fpr, np.linspace(0, 1, 101), side="right") - 1]
    assert ((low <= curve + 1e-9) & (curve <= high + 1e-9)).mean() > 0.95
    single = SliceTable.build(["P"] * 80, table.label, table.score)
    assert np.isnan(roc_band(single, 300)).all()


def exam_table(seed: int, exams: int = 60, targets: int = 10) -> ExamTable:
    """The first ``targets`` of the ten are answered."""
    generator = np.random.default_rng(seed)
    label = (generator.random((exams, 10)) < 0.4).astype(float)
    score = np.clip(0.3 * label + 0.7 * generator.random((exams, 10)), 0, 1)
    score[:, targets:] = np.nan
    nothing = [None] * exams
    return ExamTable.build([f"P{index}" for index in range(exams)], label, score, nothing, nothing)


def test_reliability(tmp_path, texts):
    path = tmp_path / "figures" / "reliability.png"
    unknown = replace(exam_table(0), label=np.full((60, 10), np.nan))
    arms = {"scratch": exam_table(0), "reused": exam_table(1), "none": unknown}
    figures.reliability_figure(arms, path, note="Synthetic data", resamples=50)
    assert_picture(path)
    positive = arms["reused"].of("positive_exam_for_pe")
    error = expected_calibration_error(positive.label, positive.score)
    assert any(f"reused: ECE {error:.3f} [0." in text and "Brier" in text for text in texts)
    assert "none: no exam is known and answered" in texts


def test_reliability_shows_the_bins_with_their_intervals(tmp_path, monkeypatch):
    lines, draw = [], Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda *args, **kw: lines.append(args[1:3]) or draw(*args, **kw)
    )
    table = exam_table(0)
    figures.reliability_figure({"reused": table}, tmp_path / "one.png", resamples=20)
    positive = table.of("positive_exam_for_pe")
    share, mean = calibration_curve(positive.label, positive.score, n_bins=10, strategy="quantile")
    _, *bars, curve = lines
    np.testing.assert_allclose(curve, [mean, share])
    assert len(bars) == 10
    for bar, value in zip(bars, share):
        found = round(6 * value), 6
        np.testing.assert_allclose(bar[1], proportion_of_wilson(*found))


def proportion_of_wilson(found: int, cases: int) -> tuple[float, float]:
    """Wilson's interval (1927) in closed form, of 95 %."""
    z, share = 1.959964, found / cases
    centre = share + z**2 / (2 * cases)
    reach = z * np.sqrt(share * (1 - share) / cases + z**2 / (4 * cases**2))
    return tuple((centre + sign * reach) / (1 + z**2 / cases) for sign in (-1, 1))


def test_every_exam_label_has_a_curve(tmp_path, texts):
    path = tmp_path / "exams.png"
    arms = {"scratch": exam_table(0), "reused": exam_table(1)}
    figures.exam_roc_figure(arms, path, note="Synthetic data", resamples=20)
    assert_picture(path)
    assert {"Positive exam", "Left-sided", "RV/LV below 1", "scratch", "reused"} <= set(texts)
    assert sum("[0." in text for text in texts) == 20


def test_labels_that_nobody_answers_have_no_panel(tmp_path, texts):
    arms = {f"arm {seed}": exam_table(seed, targets=3) for seed in range(5)}
    figures.exam_roc_figure(arms, tmp_path / "exams.png", resamples=20)
    assert {"Positive exam", "Negative exam", "Indeterminate"} <= set(texts)
    assert "Chronic" not in texts and not [text for text in texts if "[0." in text]
    with pytest.raises(ValueError, match="chronic_pe, central_pe"):
        figures.exam_roc_figure(arms, tmp_path / "none.png", targets=("chronic_pe", "central_pe"))


@pytest.mark.parametrize("arms", [1, 6])
def test_no_text_of_exam_curves_lies_on_another(tmp_path, monkeypatch, arms):
    drawn, draw = [], Text.draw

    def note(text, renderer, *args, **kwargs):
        draw(text, renderer, *args, **kwargs)
        if text.get_text() and text.get_visible():
            drawn.append((text.get_text(), text.get_window_extent(renderer)))

    def apart(figure, path, **kwargs):
        path.touch()
        drawn.clear()
        FigureCanvasAgg(figure).draw()
        assert drawn
        for (one, first), (two, second) in combinations(drawn, 2):
            assert not first.overlaps(second), (one, two)

    monkeypatch.setattr(Text, "draw", note)
    monkeypatch.setattr(Figure, "savefig", apart)
    tables = {f"arm {seed} with a name": exam_table(seed) for seed in range(arms)}
    figures.exam_roc_figure(tables, tmp_path / "all.png", resamples=5)
    figures.exam_roc_figure(tables, tmp_path / "one.png", ["central_pe"], resamples=5)
    figures.reliability_figure(tables, tmp_path / "bins.png", resamples=5)


def test_precision_recall(tmp_path, texts):
    arms = {"reused": det_table(), "empty": det_table(boxes=False)}
    figures.precision_recall_figure(arms, tmp_path / "pr.png", {"reused": 0.6}, resamples=50)
    assert_picture(tmp_path / "pr.png")
    assert "empty: no embolus in the split" in texts


def test_froc(tmp_path, texts):
    figures.froc_figure({"reused": lesion_table()}, tmp_path / "froc.png", resamples=20)
    assert_picture(tmp_path / "froc.png")
    assert any(text.startswith("reused: mean 1.000") for text in texts)


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
    assert {"0.34  [0.20, 0.40]", "0.70", "undefined", "s5_seg_reused"} <= set(texts)
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
    }
    figures.difference_figure(gains, tmp_path / "gain.png")
    assert_picture(tmp_path / "gain.png")
    minus = "\N{MINUS SIGN}"
    assert f"{minus}0.020  [{minus}0.070, +0.030]" in texts
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


def test_overlay_outlines_truth_and_prediction(tmp_path, texts):
    figures.overlay_figure(a_view(), tmp_path / "one.png", note="Synthetic data")
    assert_picture(tmp_path / "one.png")
    assert {"PAT007, slice 12\nembolism, predicted 0.91", "0.87", "truth"} <= set(texts)
    assert any("level 100 HU, width 700 HU" in text for text in texts)
    picture = cv2.imread(str(tmp_path / "one.png"))[..., ::-1].astype(int)
    for colour in (figure_overlays.TRUTH_COLOUR, figure_overlays.PREDICTED_COLOUR):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(picture - rgb).max(axis=2) < 12).sum() > 300, colour


def test_montage_of_slices_with_much_and_with_nothing_known(tmp_path, texts):
    bare = figures.SliceView(hu=np.zeros((60, 80), np.int16), patient="PAT008")
    without_boxes = a_view(truth_boxes=np.zeros((0, 4)), predicted_boxes=np.zeros((0, 4)))
    missed = a_view(truth_mask=None, truth_boxes=np.zeros((0, 4)), label=False)
    cropped = a_view(region=(20, 10, 60, 50))
    figures.montage_figure([bare, without_boxes, missed, cropped], tmp_path / "many.png", columns=2)
    assert_picture(tmp_path / "many.png")
    assert "PAT008\nlabel unknown" in texts
    with pytest.raises(ValueError, match="no slice"):
        figures.montage_figure([], tmp_path / "none.png")


def a_heat(**changes) -> figures.HeatView:
    heat = np.zeros((3, 4))
    heat[1, 2] = 0.2
    fields = dict(view=a_view(), heat=heat, extent=(0.0, 0.0, 80.0, 60.0), weight="")
    return figures.HeatView(**(fields | changes))


def test_heat_stands_beside_the_plain_slice(tmp_path, texts):
    views = [
        a_heat(weight="attention 3.0 %"),
        a_heat(heat=np.zeros((3, 4))),
        a_heat(view=a_view(region=(20, 10, 60, 50), probability=None)),
    ]
    figures.heat_figure(views, tmp_path / "heat.png", "PAT007: central", note="Synthetic data")
    assert_picture(tmp_path / "heat.png")
    assert {
        "PAT007: central",
        "Slice 12\nembolism, predicted 0.91, attention 3.0 %",
        "Slice 12\nembolism",
        "true embolus",
    } <= set(texts)
    assert any("Synthetic data. Seen through the pe window" in text for text in texts)
    with pytest.raises(ValueError, match="no slice"):
        figures.heat_figure([], tmp_path / "none.png", "nobody")


def test_without_masks_there_is_no_key_to_them(tmp_path, texts):
    for mask in (None, np.zeros((60, 80), dtype=bool)):
        view = a_heat(view=a_view(truth_mask=mask, truth_boxes=np.zeros((0, 4))))
        figures.heat_figure([view], tmp_path / "heat.png", "PAT007")
        assert "true embolus" not in texts


def test_heat_lies_in_its_cells_on_one_scale(tmp_path, monkeypatch):
    """The weakest of two slices is half as warm, and the slice is seen where there is none."""
    drawn, show = [], Axes.imshow
    monkeypatch.setattr(
        Axes, "imshow", lambda axes, *a, **kw: drawn.append((a[0], kw)) or show(axes, *a, **kw)
    )
    views = [a_heat(), a_heat(heat=np.full((2, 2), 0.1), extent=(4.0, 6.0, 68.0, 70.0))]
    figures.heat_figure(views, tmp_path / "heat.png", "PAT007")
    (first, style), (second, other) = [(a, kw) for a, kw in drawn if "extent" in kw]
    assert first.max() == 1 and (second == 0.5).all()
    assert style["extent"] == (-0.5, 79.5, 59.5, -0.5)
    assert other["extent"] == (3.5, 67.5, 69.5, 5.5)
    assert style["alpha"].min() == 0 and 0.3 < other["alpha"].max() < style["alpha"].max() < 1


@pytest.mark.parametrize("focus", [(0.0, 0, 4, 4), (70.0, 50, 80, 60), (0.0, 0, 80, 60)])
def test_enlarged_part_stays_within_the_slice(focus):
    view = a_view(truth_boxes=np.array([focus]))
    x0, y0, x1, y1 = figure_overlays._surroundings(view, (0, 0, 80, 60))
    assert 0 <= x0 < x1 <= 80 and 0 <= y0 < y1 <= 60
    assert x1 - x0 == y1 - y0


def test_view_of_a_predicted_sample(tmp_path):
    hu = np.arange(24 * 24, dtype=np.int16).reshape(24, 24)
    write_slice_png(tmp_path / "0003.png", hu)
    meta = dict(img_path=str(tmp_path / "0003.png"), patient_id="P1", slice_index=3)
    sample = PEDataSample(metainfo=meta | dict(crop_box=(2, 2, 22, 22)))
    sample.set_gt_label(1)
    sample.pred_score = torch.tensor([0.3, 0.7])
    sample.seg_prob = PixelData(data=torch.full((1, 24, 24), 0.6, dtype=torch.bfloat16))
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 5, 5], [1, 1, 6, 6]]), scores=torch.tensor([0.9, 0.1])
    )
    view = figures.SliceView.of_sample(sample, seg_threshold=0.5, det_threshold=0.4)
    np.testing.assert_array_equal(view.hu, hu)
    assert view.predicted_mask.all() and view.truth_mask is None
    np.testing.assert_array_equal(view.predicted_boxes, [[0, 0, 5, 5]])
    assert view.caption == "P1, slice 3\nembolism, predicted 0.70"
    assert view.region == (2, 2, 22, 22)
    strict = figures.SliceView.of_sample(sample, seg_threshold=0.7)
    assert not strict.predicted_mask.any()


def a_flow(reasons: dict[str, int], exams: int = 1000, **changes) -> dict:
    left = [
        dict(study_uid=f"{reason} {number}", patient_id="P", reason=reason)
        for reason, count in reasons.items()
        for number in range(count)
    ]
    kept = exams - len(left)
    flow = dict(file="/somewhere/annotations/fold0_train.json", exams=exams, left_out=left)
    classes = dict(positive=kept // 4, negative=kept - kept // 4, undecided=0)
    return {**flow, "notes": [], "kept": kept, **classes, **changes}


def test_the_flow_of_exams_counts_what_is_left_out_by_its_reason(tmp_path, texts):
    doubt = dict(patient_id="P", reason="2 series, of which the longest is used")
    notes = [{**doubt, "study_uid": study} for study in ("1", "1", "2", "no slices 3")]
    flows = {
        "train": a_flow({"no slices": 4, "no label of the exam is known": 196}, notes=notes),
        "test": a_flow({}, exams=1, positive=0, negative=0, undecided=1),
    }
    figures.flow_figure(flows, tmp_path / "flow.png", "RSNA-STR PE")
    assert_picture(tmp_path / "flow.png")
    assert {
        *("Training", "1,000 exams in fold0_train.json", "800 exams used", "200 exams left out"),
        *("196: no label of the exam is", "    known", "4: no slices", "200 (25 %)", "600 (75 %)"),
        *("2 of them with a note", "Test", "1 exam used", "0 exams left out", "1 (100 %)"),
    } <= set(texts)
    order = [text for text in texts if text.startswith(("196: ", "4: "))]
    assert order == ["196: no label of the exam is", "4: no slices"]
    assert any(text.startswith("RSNA-STR PE. Undecided: indeterminate") for text in texts)
    with pytest.raises(ValueError, match="no split"):
        figures.flow_figure({}, tmp_path / "none.png")


def test_boxes_of_a_flow_hold_their_text_and_lie_apart(tmp_path, monkeypatch):
    save = Figure.savefig

    def within(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        (axes,), drawn = figure.axes, FigureCanvasAgg(figure).get_renderer()
        boxes = [patch.get_window_extent(drawn) for patch in axes.patches]
        assert len(boxes) == 6 * 3
        for number, box in enumerate(boxes):
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert not any(box.overlaps(other) for other in boxes[:number])
        for text in axes.texts:
            if text.get_text():
                seen = text.get_window_extent(drawn)
                assert any(
                    box.x0 < seen.x0 < seen.x1 < box.x1 and box.y0 < seen.y0 < seen.y1 < box.y1
                    for box in boxes
                ), text.get_text()

    monkeypatch.setattr(Figure, "savefig", within)
    many = {"no slices": 3, "no label of the exam is known": 40, "a reason of many words " * 4: 9}
    flows = {"train": a_flow({**many, "passed over by every=2": 900}, exams=123_456)}
    flows |= {"val": a_flow({}), "test": a_flow({"indeterminate": 1})}
    figures.flow_figure(flows, tmp_path / "flow.png")
    assert (tmp_path / "flow.png").is_file()


def test_footer_says_the_research_line_once():
    for note in ("Synthetic data", "Synthetic data.", f"Synthetic data. {RESEARCH_LINE}."):
        assert footer(note) == f"Synthetic data. {RESEARCH_LINE}."
    assert footer("") == footer(f"{RESEARCH_LINE}.") == f"{RESEARCH_LINE}."


def test_a_long_footer_is_seen_to_its_end(tmp_path, monkeypatch):
    save = Figure.savefig

    def within(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        (said,) = figure.texts
        drawn = FigureCanvasAgg(figure).get_renderer()
        box, (axes,) = said.get_window_extent(drawn), figure.axes
        assert said.get_text().endswith("medical device.")
        assert 0 <= box.x0 < box.x1 < figure.bbox.x1
        assert 0 <= box.y0 < box.y1 < axes.get_window_extent(drawn).y0

    monkeypatch.setattr(Figure, "savefig", within)
    for width in (2.4, 4.6, 11.0):
        with new_figure(
            tmp_path / "long.png", width, 2.0, "Seed 0 of 3. " + "WIDE words " * 12
        ) as f:
            f.add_subplot().set_axis_off()
    assert (tmp_path / "long.png").is_file()


def test_a_figure_that_fails_leaves_nothing(tmp_path):
    with (
        pytest.raises(RuntimeError),
        new_figure(tmp_path / "broken.png", 3, 3) as figure,
    ):
        figure.add_subplot()
        raise RuntimeError("while drawing")
    assert not list(tmp_path.iterdir())
