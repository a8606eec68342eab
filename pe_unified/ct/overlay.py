"""Resamples a mask to the slices of a scan: unchanged on the same grid, else nearest voxels."""

from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np

#: Two grids are the same if no voxel differs in position by more than this, voxels.
_SAME = 0.1


class Slices(Protocol):
    """Positions of the voxels of a scan; for example a :class:`~pe_unified.ct.study.CTStudy`."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, cols)."""

    def affine_lps(self) -> np.ndarray:
        """4 x 4: (col, row, slice, 1) to LPS mm."""

    def positions_mm(self, points: np.ndarray) -> np.ndarray:
        """Convert (n, 3) slice, row and column indices to LPS mm, (n, 3)."""


@dataclass(frozen=True, eq=False)
class EvenSlices:
    """The grid of a file with evenly spaced slices.

    Attributes:
        shape: (slices, rows, cols).
        affine: 4 x 4, (col, row, slice, 1) to LPS mm.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def affine_lps(self) -> np.ndarray:
        return self.affine

    def positions_mm(self, points: np.ndarray) -> np.ndarray:
        return points[:, ::-1] @ self.affine[:3, :3].T + self.affine[:3, 3]

    def indices(self, points_mm: np.ndarray) -> np.ndarray:
        """Convert LPS mm (n, 3) to fractional slice, row and column indices, (n, 3)."""
        return ((points_mm - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T)[:, ::-1]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(slice, row, col), the lengths of the steps along the axes."""
        col, row, step = (float(side) for side in np.linalg.norm(self.affine[:3, :3], axis=0))
        return step, row, col

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))


def same_grid(slices: Slices, shape: tuple[int, ...], affine: np.ndarray) -> bool:
    """Whether a mask of ``shape`` and ``affine`` has the corners of all slices where they are."""
    if tuple(shape) != tuple(slices.shape):
        return False
    count, rows, cols = slices.shape
    corners = product(range(count), (0, rows - 1), (0, cols - 1))
    points = np.array(list(corners), dtype=np.float64)
    to_mask = np.linalg.inv(affine)
    found = slices.positions_mm(points) @ to_mask[:3, :3].T + to_mask[:3, 3]
    return bool(np.abs(found - points[:, ::-1]).max() <= _SAME)


def nearest_voxels(mask: np.ndarray, affine: np.ndarray, slices: Slices) -> np.ndarray:
    """The nearest voxel of a mask for each voxel of a scan.

    Args:
        mask: (slices, rows, cols) of any type.
        affine: 4 x 4, (col, row, slice, 1) of the mask to LPS mm.

    Returns:
        Array of the scan's shape and the mask's type; 0 outside the mask.
    """
    to_mask = np.linalg.inv(affine)
    count, rows, cols = slices.shape
    starts = slices.positions_mm(np.array([[k, 0, 0] for k in range(count)], dtype=np.float64))
    starts = starts @ to_mask[:3, :3].T + to_mask[:3, 3]
    along_col, along_row = (to_mask[:3, :3] @ slices.affine_lps()[:3, :2]).T
    in_slice = (
        np.arange(rows)[:, None, None] * along_row + np.arange(cols)[None, :, None] * along_col
    )
    limits = np.array(mask.shape[::-1])
    found = np.zeros(slices.shape, dtype=mask.dtype)
    reach = in_slice.reshape(-1, 3)
    low, high = reach.min(axis=0), reach.max(axis=0)
    for index, start in enumerate(starts):
        if (start + high < -0.5).any() or (start + low > limits - 0.5).any():
            continue
        at = np.rint(start + in_slice).astype(np.int64)
        inside = ((at >= 0) & (at < limits)).all(axis=-1)
        col, row, level = at[inside].T
        found[index][inside] = mask[level, row, col]
    return found
