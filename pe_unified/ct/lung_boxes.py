"""Boxes around the lungs on single slices, and the crop of a study that follows from them."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from pe_unified.ct.body import GAS_HU, find_body
from pe_unified.ct.lungs import Spacing, grid_spacing, search_grid, shrink_slice

#: Smaller dark regions of a slice are bowel, airways or noise rather than lung, square mm.
_SMALLEST_MM2 = 400.0
#: Share of the boxes' edges that the crop may cut off on each side: so a few wrong slices change
#: it little, and the widest part of a lung spans many slices.
_OUTLIERS = 0.05


def lung_box_of_slice(
    hu: np.ndarray, spacing_mm: Spacing, within: Sequence[float]
) -> tuple[int, int, int, int] | None:
    """The box around the lungs on one slice, given the approximate lungs of the study.

    The lungs are recognised better in the whole study than on one slice. So only their region is
    searched, for dark parts that are neither air around the body nor gas.

    Args:
        hu: (rows, cols), Hounsfield units.
        spacing_mm: (row, col, slice), mm; None entries take usual values.
        within: (x, y, w, h), the box around the lungs of the study, in pixels.

    Returns:
        (x1, y1, x2, y2) in pixels; None if no lung is found.
    """
    rows, cols = hu.shape
    row, col, _ = search_grid(hu.shape, spacing_mm)
    coarse = shrink_slice(hu, row, col)
    x, y, wide, high = within
    dark = find_body(coarse[None]).dark[0]
    top, bottom = int(y // row), int(-(-(y + high) // row))
    left, right = int(x // col), int(-(-(x + wide) // col))
    inside = np.zeros_like(dark)
    inside[top:bottom, left:right] = True
    pieces, count = ndimage.label(dark & inside)
    row_mm, col_mm, _ = grid_spacing(hu.shape, spacing_mm)
    numbers = np.arange(1, count + 1)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:] * row_mm * col_mm
    means = ndimage.mean(coarse, pieces, numbers)
    kept = np.isin(pieces, numbers[(sizes >= _SMALLEST_MM2) & (np.asarray(means) >= GAS_HU)])
    if not kept.any():
        return None
    down, across = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    x1, y1 = int(across[0]) * col, int(down[0]) * row
    return x1, y1, min(cols, (int(across[-1]) + 1) * col), min(rows, (int(down[-1]) + 1) * row)


def crop_of_boxes(
    boxes: np.ndarray, shape: Sequence[int], margin: Sequence[float] = (0.0, 0.0)
) -> tuple[int, int, int, int]:
    """The crop of a study from the lungs' boxes on its slices.

    Args:
        boxes: (n, 4), x1 y1 x2 y2 in pixels, at least one.
        shape: (rows, cols) of a slice.
        margin: rows and columns added on every side, within the slice.

    Returns:
        (x, y, w, h).
    """
    rows, cols = shape
    x1, y1 = np.quantile(boxes[:, :2], _OUTLIERS, axis=0, method="lower")
    x2, y2 = np.quantile(boxes[:, 2:], 1 - _OUTLIERS, axis=0, method="higher")
    left, top = max(0, round(x1 - margin[1])), max(0, round(y1 - margin[0]))
    right, bottom = min(cols, round(x2 + margin[1])), min(rows, round(y2 + margin[0]))
    return left, top, max(1, right - left), max(1, bottom - top)
