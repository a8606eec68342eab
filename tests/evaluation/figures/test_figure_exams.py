"""Figures of whole exams."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from calibration_error import expected_calibration_error
from figure_samples import assert_picture, exam_table
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve

from pe_unified.evaluation import figures


def test_reliability(tmp_path, texts):
    path = tmp_path / "figures" / "reliability.png"
    unknown = replace(exam_table(0), label=np.full((60, 10), np.nan))
    arms = {"scratch": exam_table(0), "reused": exam_table(1), "none": unknown}
    figures.reliability_figure(arms, path, note="Synthetic data", resamples=50)
    assert_picture(path)
    positive = arms["reused"].of("positive_exam_for_pe")
    error = expected_calibration_error(positive.label, positive.score)
    assert any(f"reused: ECE {error:.3f} [0." in text and "Brier" in text for text in texts)
    assert "none: no labelled exam with an answer" in texts


def test_reliability_shows_the_bins_with_their_intervals(tmp_path, monkeypatch):
    lines, draw = [], Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda *args, **kw: lines.append(args[1:3]) or draw(*args, **kw)
    )
    table = replace(exam_table(0), calibration=np.array([0.5, -1.0]))
    figures.reliability_figure({"reused": table}, tmp_path / "one.png", resamples=20)
    positive = table.of("positive_exam_for_pe")
    shown = expit(0.5 * logit(positive.score) - 1)
    share, mean = calibration_curve(positive.label, shown, n_bins=10, strategy="quantile")
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
