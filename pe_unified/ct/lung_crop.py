"""The part of a study that contains the lungs, as input of networks for volumes."""

from collections.abc import Sequence

import numpy as np

from pe_unified.ct.lungs import (
    LUNG_MARGIN_MM,
    coarse_lungs,
    search_grid,
    share_of_every_slice,
    shrink_slice,
)
from pe_unified.ct.study import CTStudy
from pe_unified.ct.volume_grid import VolumeGrid, grid_over
from pe_unified.errors import DataError

#: Maximum step between slices for a three-dimensional analysis, mm.
THICKEST_MM = 10.0
#: A step longer than this multiple of the usual one is a gap that cannot be filled.
_GAP = 1.5
_EXPORT = "export the study again"


def require_volume(study: CTStudy) -> None:
    """Refuse a study that is not a volume.

    Raises:
        DataError: one slice, unknown spacing, or slices at one height, missing, or too far apart.
    """
    where = study.source
    if len(study) < 2:
        raise DataError(where, "a single slice is not a volume", "give the whole series")
    if None in study.spacing_mm:
        raise DataError(where, "the spacing of its voxels is unknown", _EXPORT)
    known = [z for z in study.z_mm if z is not None]
    if len(known) not in (0, len(study)):
        raise DataError(where, "the heights of some slices are unknown", _EXPORT)
    steps = np.diff(known) if known else np.array([study.known_spacing()[2]])
    if (steps <= 0).any():
        raise DataError(where, "slices lie at the height of others", "remove the duplicate slices")
    usual = float(np.median(steps))
    if usual > THICKEST_MM:
        reason = f"its slices lie {usual:.4g} mm apart, more than {THICKEST_MM:g}"
        raise DataError(where, reason, "give a series of thin slices")
    if (steps > _GAP * usual).any():
        gaps = steps[steps > _GAP * usual]
        count = int(np.sum(np.rint(gaps / usual) - 1)) or len(gaps)
        reason = f"{count} slices are missing between others, steps of up to {gaps.max():.4g} mm"
        raise DataError(where, reason, _EXPORT)


def lung_grid(
    study: CTStudy, box: Sequence[float], shares: Sequence[float], step_mm: float
) -> VolumeGrid:
    """The grid over the lungs, with some margin.

    Args:
        study: a volume.
        box: (x, y, width, height) around the lungs, including the margin, pixels.
        shares: the share of each slice that is lung.
        step_mm: of the grid.
    """
    inside = np.flatnonzero(np.asarray(shares) > 0)
    margin = round(LUNG_MARGIN_MM / study.known_spacing()[2])
    first, last = max(0, inside[0] - margin), min(len(study) - 1, inside[-1] + margin)
    return grid_over(study, box, (int(first), int(last)), step_mm)


def find_lung_grid(study: CTStudy, step_mm: float) -> VolumeGrid:
    """As :func:`lung_grid`, for lungs found in the study in the same way as by the converters.

    Raises:
        DataError: not a volume, or no lungs in it.
    """
    require_volume(study)
    row, col, step = search_grid(study.shape[1:], study.spacing_mm)
    places = range(0, len(study), step)
    coarse = np.stack([shrink_slice(study.slice_hu(index), row, col) for index in places])
    found = coarse_lungs(coarse, study.shape[1:], study.spacing_mm, LUNG_MARGIN_MM)
    if found is None:
        reason, cure = "no lungs are found in it", "give a CT of the whole chest"
        raise DataError(study.source, reason, cure)
    box, shares = found
    return lung_grid(study, box, share_of_every_slice(shares, places, len(study)), step_mm)
