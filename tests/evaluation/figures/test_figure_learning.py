"""Curves of learning."""

import pytest
from figure_samples import assert_picture
from matplotlib.figure import Figure

from pe_unified.evaluation import figures

METRICS = ("seg/dice", "cls/auc", "det/mAP_50")
CURVES = {
    "masks": [
        [{"seconds": 60.0, "seg/dice": 0.1}, {"seconds": 120.0, "seg/dice": 0.4}],
        [{"seconds": 180.0, "seg/dice": 0.3}, {"seconds": 240.0, "seg/dice": 0.6}],
    ],
    "both": [[{"seconds": 60.0, "seg/dice": 0.2, "cls/auc": 0.7}]],
}


def test_lines_are_means_over_minutes_and_only_metrics_that_are_there_have_axes(
    tmp_path, texts, monkeypatch
):
    drawn = {}
    save = Figure.savefig

    def spy(figure, *args, **kwargs):
        for axes in figure.axes:
            drawn[axes.get_title(loc="left")] = [line.get_xydata().tolist() for line in axes.lines]
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    figures.learning_figure(CURVES, METRICS, tmp_path / "learning.png", "Painted studies.")
    assert_picture(tmp_path / "learning.png")
    assert set(drawn) == {"Dice, pooled", "Slice AUC"}
    assert drawn["Slice AUC"] == [[[1.0, 0.7]]]
    assert drawn["Dice, pooled"][0] == [pytest.approx((2.0, 0.2)), pytest.approx((3.0, 0.5))]
    assert {"masks", "both"} <= set(texts)
    assert any("Painted studies. Research" in text for text in texts)


def test_curves_without_a_metric_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no curve has any of seg/dice"):
        figures.learning_figure({"a": [[{"seconds": 1.0}]]}, ["seg/dice"], tmp_path / "a.png")
