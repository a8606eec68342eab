"""ROC, precision and recall, FROC: whole, named, and of what they were given."""

import numpy as np
from figure_samples import assert_picture, det_table, lesion_table, slice_table

from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.evaluation import figures
from pe_unified.evaluation.figures.curves import roc_band
from pe_unified.evaluation.slices import SliceTable, roc_points


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


def test_precision_recall(tmp_path, texts):
    arms = {"reused": det_table(), "empty": det_table(boxes=False)}
    figures.precision_recall_figure(arms, tmp_path / "pr.png", {"reused": 0.6}, resamples=50)
    assert_picture(tmp_path / "pr.png")
    assert "empty: no embolus in the split" in texts


def test_froc(tmp_path, texts):
    figures.froc_figure({"reused": lesion_table()}, tmp_path / "froc.png")
    assert_picture(tmp_path / "froc.png")
    assert any(text.startswith("reused: mean 1.000") for text in texts)


def test_froc_panels_of_a_curve_and_a_point(tmp_path, texts):
    tables = {epsilon: lesion_table() for epsilon in (0.0, 2.0)}
    systems = {"scored": tables, "plain": tables}
    figures.froc_panels_figure(systems, tmp_path / "froc.png", ["scored"], note="Painted data")
    assert_picture(tmp_path / "froc.png")
    assert {"inside (0 mm)", "within 2 mm", "scored", "plain"} <= set(texts)


def test_of_many_arms_the_best_are_named_beside_the_axes(tmp_path, texts):
    rng = np.random.default_rng(0)
    arms = {}
    for number in range(11):
        table = slice_table()
        noise = rng.normal(0, number, len(table.score))
        arms[f"arm {number}"] = SliceTable.build(table.patient, table.label, table.score + noise)
    figures.roc_figure(arms, tmp_path / "roc.png", resamples=50)
    assert_picture(tmp_path / "roc.png")
    figures.froc_figure({name: lesion_table() for name in arms}, tmp_path / "froc.png")
    named = {text.partition(":")[0] for text in texts if ": AUC" in text}
    assert len(named) == 8 and "arm 0" in named and "3 others" in texts
    assert len({text for text in texts if ": mean" in text}) == 8
