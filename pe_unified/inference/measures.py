"""Measures of a lesion in mm, ml and HU."""

from contextlib import suppress

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from pe_unified.ct.study import CTStudy
from pe_unified.inference.reading import SliceReader


def slice_thickness_mm(study: CTStudy) -> np.ndarray:
    """(slices,): the height of each slice, up to halfway to both neighbours, mm."""
    count, step = len(study), study.known_spacing()[2]
    if study.missing_slices or None in study.z_mm or count < 2:
        return np.full(count, step)
    edges = np.diff(np.asarray(study.z_mm, dtype=np.float64))
    return (np.append(edges[0], edges) + np.append(edges, edges[-1])) / 2


def volume_ml(pixels: dict[int, np.ndarray], study: CTStudy) -> float:
    """Volume of a mask, ml.

    Args:
        pixels: row-major indices of its pixels, by slice.
    """
    row, col, _ = study.known_spacing()
    thickness = slice_thickness_mm(study)
    cubic_mm = sum(len(own) * thickness[index] for index, own in pixels.items()) * row * col
    return float(cubic_mm / 1000)


def diameter_mm(points: np.ndarray, study: CTStudy) -> float:
    """Largest distance between two outer corners of voxels, mm.

    Args:
        points: (n, 3), slice, row and column of every voxel.
    """
    points = _row_ends(points)
    half_step = 0.5 * np.asarray(study.step_mm)
    corners = np.concatenate(
        [points + np.array([0.0, 0.5 * row, 0.5 * col]) for row in (-1, 1) for col in (-1, 1)]
    )
    middles = study.positions_mm(np.unique(corners, axis=0))
    places = np.concatenate([middles - half_step, middles + half_step])
    with suppress(QhullError):  # rounding may make a body flat
        places = places[ConvexHull(places).vertices]
    return float(pdist(places).max())


def _row_ends(points: np.ndarray) -> np.ndarray:
    """The first and the last voxel of every row: others cannot be corners of the hull."""
    ordered = points[np.lexsort(points.T[::-1])]
    new_row = np.any(np.diff(ordered[:, :2], axis=0) != 0, axis=1)
    first, last = np.append(True, new_row), np.append(new_row, True)
    return ordered[first | last]


def mean_hu(pixels: dict[int, np.ndarray], reader: SliceReader) -> float:
    """Mean attenuation under a mask, HU; ``pixels`` as in :func:`volume_ml`."""
    values = [reader.hu(index).ravel()[own] for index, own in sorted(pixels.items())]
    return float(np.concatenate(values).mean())
