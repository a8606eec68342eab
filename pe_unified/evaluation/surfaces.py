"""Distances between the surfaces of two masks: ASSD, HD95 and NSD.

A surface consists of the voxels of a mask that share a face with a voxel outside it, as in MONAI;
everything outside the image is background. Distances are between the centres of surface voxels, in
mm, from the spacing along the axes. Definitions follow Metrics Reloaded (Maier-Hein, Reinke et al.
2024, https://doi.org/10.1038/s41592-023-02151-z):

- ASSD: the mean over the surface voxels of both masks together, each to the other surface.
- HD95: the larger of the two directed 95th percentiles (linear between ranks). Other tools take the
  percentile of both directions pooled, which is usually smaller.
- NSD: the share of the surface voxels of both masks within a tolerance of the other surface
  (Nikolov et al. 2021, https://doi.org/10.2196/26151, counted in voxels, not by area).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pe_unified.evaluation.intervals import FloatArray


@dataclass(frozen=True)
class SurfaceAgreement:
    """Agreement of two surfaces.

    Attributes:
        voxels: number of voxels of both surfaces.
        within: number of these within the tolerance of the other surface.
        total_mm: sum of all distances in both directions; NaN if a mask is empty.
        hd95_mm: see above; NaN if a mask is empty.
    """

    voxels: int
    within: int
    total_mm: float
    hd95_mm: float

    @property
    def assd_mm(self) -> float:
        return self.total_mm / self.voxels if self.voxels else math.nan

    @property
    def nsd(self) -> float:
        return self.within / self.voxels if self.voxels else math.nan


def surface_voxels(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices (n, 3) of the surface voxels of a mask (slices, rows, cols)."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for side in (slice(None, -2), slice(2, None)):
            where = [slice(1, -1)] * mask.ndim
            where[axis] = side
            inner &= padded[tuple(where)]
    return np.argwhere(mask & ~inner)


def surface_distances(
    one: NDArray[np.integer], other: NDArray[np.integer], spacing_mm: Sequence[float]
) -> tuple[FloatArray, FloatArray]:
    """Distances from every voxel of a surface to the other surface, mm, in both directions.

    Args:
        one, other: (n, 3) slice, row and column indices in one grid; neither empty.
        spacing_mm: (slice, row, col).
    """
    places = [points * np.asarray(spacing_mm, dtype=np.float64) for points in (one, other)]
    trees = [cKDTree(each) for each in places]
    forth, _ = trees[1].query(places[0])
    back, _ = trees[0].query(places[1])
    return forth, back


def surface_agreement(
    one: NDArray[np.integer],
    other: NDArray[np.integer],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
) -> SurfaceAgreement:
    """Compare two surfaces, given as in :func:`surface_distances`; either may be empty."""
    if not len(one) or not len(other):
        return SurfaceAgreement(len(one) + len(other), 0, math.nan, math.nan)
    directions = surface_distances(one, other, spacing_mm)
    return SurfaceAgreement(
        voxels=sum(map(len, directions)),
        within=sum(int((each <= tolerance_mm).sum()) for each in directions),
        total_mm=float(sum(each.sum() for each in directions)),
        hd95_mm=float(max(np.percentile(each, 95) for each in directions)),
    )
