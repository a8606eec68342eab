"""An even three-dimensional grid over part of a study, and sampling on it.

Its axes are those of the slices: up along their normal, down the rows, along the columns. Values
are interpolated linearly between slices (at their true positions), rows and columns; with a tilted
gantry the grid is sheared like the stack of slices.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pe_unified.ct.study import CTStudy

#: Positions that differ by no more than this are the same, in steps.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class VolumeGrid:
    """Positions of the points of a grid in a study.

    Attributes:
        levels, rows, cols: float64, ascending: fractional slice, row and column index of every
            level, row and column of the grid.
        step_mm: between neighbouring points, along every axis.
        slices: float64 (slices of the study,), the fractional level of each slice; below 0 or
            above the last level outside the grid.
    """

    levels: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    step_mm: float
    slices: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """(levels, rows, cols)."""
        return len(self.levels), len(self.rows), len(self.cols)

    def indices(self, points: np.ndarray) -> np.ndarray:
        """Slice, row and column indices, float64 (n, 3), of points (n, 3) on the grid."""
        axes = zip(points.T, (self.levels, self.rows, self.cols), strict=True)
        return np.stack([np.interp(at, np.arange(len(axis)), axis) for at, axis in axes], axis=1)

    def held(self, points: np.ndarray) -> np.ndarray:
        """Which of the voxels (n, 3) of the study have their nearest point within the grid."""
        inside = np.ones(len(points), dtype=bool)
        for at, axis in zip(points.T, (self.levels, self.rows, self.cols), strict=True):
            half = (axis[-1] - axis[0]) / max(1, 2 * (len(axis) - 1))
            inside &= (at >= axis[0] - half) & (at <= axis[-1] + half)
        return inside


def grid_over(
    study: CTStudy,
    box: Sequence[float],
    slices: tuple[int, int],
    step_mm: float,
) -> VolumeGrid:
    """A grid over a box of a study, starting at the centre of its first voxel.

    Args:
        study: with known spacing and slices at ascending heights.
        box: (x, y, width, height), pixels.
        slices: first and last, inclusive.
        step_mm: of the grid.
    """
    x, y, width, height = box
    row_mm, col_mm, slice_mm = study.known_spacing()
    known = all(z is not None for z in study.z_mm)
    heights = np.array(study.z_mm, float) if known else slice_mm * np.arange(len(study))
    first, last = slices
    up = heights[first] + _steps(heights[last] - heights[first], step_mm)
    return VolumeGrid(
        levels=np.interp(up, heights, np.arange(len(study))),
        rows=y + _steps((height - 1) * row_mm, step_mm) / row_mm,
        cols=x + _steps((width - 1) * col_mm, step_mm) / col_mm,
        step_mm=step_mm,
        slices=(heights - heights[first]) / step_mm,
    )


def _steps(length_mm: float, step_mm: float) -> np.ndarray:
    """Positions from 0 up to ``length_mm``, mm."""
    return step_mm * np.arange(int(length_mm / step_mm + _ROUNDING) + 1)


def levels_of(read: Callable[[int], np.ndarray], grid: VolumeGrid) -> Iterator[np.ndarray]:
    """The levels of a grid, float32 (rows, cols), from bottom to top; each slice is read once.

    Args:
        read: slice index to (rows, cols).
    """
    kept: dict[int, np.ndarray] = {}
    for level in grid.levels:
        low = int(level)
        needed = [low] if level == low else [low, low + 1]
        kept = {
            index: kept[index] if index in kept else _in_plane(read(index), grid.rows, grid.cols)
            for index in needed
        }
        share = np.float32(level - low)
        yield kept[low] if len(kept) == 1 else (1 - share) * kept[low] + share * kept[low + 1]


def _in_plane(values: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Values of a slice at fractional rows and columns within it: float32 (rows, cols)."""
    return _along(_along(values.astype(np.float32), rows).T, cols).T


def _along(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values at fractional positions along the first axis."""
    low = np.clip(places.astype(np.intp), 0, max(0, len(values) - 2))
    high = np.minimum(low + 1, len(values) - 1)
    share = (places - low).astype(np.float32)[:, None]
    return values[low] * (1 - share) + values[high] * share


@dataclass(frozen=True, eq=False)
class SpreadMap:
    """Values on a grid, resampled to the slices of its study.

    Attributes:
        values: float (levels, rows, cols).
        grid: of the values.
        shape: (slices, rows, cols) of the study.
    """

    values: np.ndarray
    grid: VolumeGrid
    shape: tuple[int, int, int]

    def slice(self, index: int) -> np.ndarray:
        """One slice of the study: float32 (rows, cols), 0 outside the grid."""
        found = np.zeros(self.shape[1:], dtype=np.float32)
        at = float(self.grid.slices[index])
        if not -_ROUNDING <= at <= len(self.values) - 1 + _ROUNDING:
            return found
        at = min(max(at, 0.0), len(self.values) - 1.0)
        low = int(at)
        level = self.values[low].astype(np.float32)
        if at > low:
            share = np.float32(at - low)
            level = (1 - share) * level + share * self.values[low + 1]
        rows, own_rows = _within(self.grid.rows, self.shape[1])
        cols, own_cols = _within(self.grid.cols, self.shape[2])
        found[rows[:, None], cols] = _in_plane(level, own_rows, own_cols)
        return found


def _within(axis: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels covered by an axis of a grid, and their positions on it."""
    first, last = np.ceil(axis[0] - _ROUNDING), np.floor(axis[-1] + _ROUNDING)
    pixels = np.arange(int(first), min(size - 1, int(last)) + 1)
    return pixels, np.interp(pixels, axis, np.arange(len(axis)))
