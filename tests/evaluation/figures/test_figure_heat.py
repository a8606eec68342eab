"""Slices with heat beside the plain ones."""

import numpy as np
import pytest
from figure_samples import a_view, assert_picture
from matplotlib.axes import Axes

from pe_unified.evaluation import figures


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
