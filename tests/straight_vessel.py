"""A straight artery along z, in slices as fine as its wall is thin."""

import numpy as np

from pe_unified.phantom.grid import Grid
from pe_unified.phantom.tissue import vessel_coverage
from pe_unified.phantom.tree import LOBAR, VesselTree

RADIUS, LENGTH = 10.0, 60.0
GRID = Grid((70, 51, 51), (1.0, 0.5, 0.5), (-12.5, -12.5, -5.0))
#: Of GRID, the middle of the vessel.
MIDDLE = 35


def straight_tree(nodes: int = 31, radius: float = RADIUS) -> VesselTree:
    count = np.arange(nodes)
    points = np.stack([0 * count, 0 * count, count * LENGTH / (nodes - 1)], axis=1)
    level = np.full(nodes, LOBAR, dtype=np.int8)
    return VesselTree(
        points.astype(float),
        np.full(nodes, radius),
        count - 1,
        level,
        np.ones(nodes, dtype=np.int8),
    )


def straight_lumen() -> np.ndarray:
    """Coverage of the vessel on GRID, uint8 (slices, rows, cols)."""
    return vessel_coverage(GRID, straight_tree(), None)


def in_plane() -> tuple[np.ndarray, np.ndarray]:
    """Distance of GRID's pixels from the vessel's middle, mm, and their angle: (rows, cols)."""
    x, y, _ = GRID.axes()
    return np.hypot(x[0], y[0]), np.arctan2(y[0], x[0] + 0 * y[0])
