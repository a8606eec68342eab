"""The lungs of a study that is in memory, found as the package finds them slice by slice."""

import numpy as np

from pe_unified.ct.lungs import (
    box_of_lungs,
    find_lungs,
    grid_spacing,
    lungs_of_slice,
    search_grid,
    shrink_slice,
)


def coarse_grid(hu, spacing):
    """The study on the search grid, and the step between its slices."""
    row, col, step = search_grid(hu.shape[1:], spacing)
    return np.stack([shrink_slice(level, row, col) for level in hu[::step]]), step


def _chest(hu, spacing):
    coarse, step = coarse_grid(hu, spacing)
    return find_lungs(coarse, grid_spacing(hu.shape[1:], spacing)), step


def lung_mask(hu, spacing):
    """bool (slices, rows, cols); None if no lungs are found."""
    chest, step = _chest(hu, spacing)
    if chest.lungs is None:
        return None
    return np.stack([lungs_of_slice(level, k, chest, step, spacing) for k, level in enumerate(hu)])


def lung_box(hu, spacing, margin_mm=0.0):
    """(x, y, w, h); None if no lungs are found."""
    chest, _ = _chest(hu, spacing)
    if chest.lungs is None:
        return None
    return box_of_lungs(chest.lungs, chest.body, hu.shape[1:], spacing, margin_mm)
