"""Paints tubes (vessels, airways, ribs) into a volume, each within its own small box."""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from pe_unified.phantom.grid import Grid

#: Number of voxels evaluated at once; limits the memory of a batch.
_BATCH = 1_500_000


@dataclass(frozen=True)
class Tubes:
    """Straight pieces of tube.

    Attributes:
        start, end: (n, 3) positions (x, y, z), millimetres.
        radius_start, radius_end: (n,) millimetres.
    """

    start: np.ndarray
    end: np.ndarray
    radius_start: np.ndarray
    radius_end: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def __add__(self, other: "Tubes") -> "Tubes":
        return Tubes(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in ("start", "end", "radius_start", "radius_end")
            )
        )

    def where(self, chosen: np.ndarray) -> "Tubes":
        """The pieces selected by a mask or index array."""
        return Tubes(
            self.start[chosen],
            self.end[chosen],
            self.radius_start[chosen],
            self.radius_end[chosen],
        )

    def grown(self, by: float = 0.0, factor: float = 1.0) -> "Tubes":
        """The same tubes with radius ``factor * radius + by``, at least 0.1 mm."""
        return Tubes(
            self.start,
            self.end,
            np.maximum(self.radius_start * factor + by, 0.1),
            np.maximum(self.radius_end * factor + by, 0.1),
        )


def no_tubes() -> Tubes:
    """An empty set of tubes."""
    return Tubes(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0))


def smooth_line(points: np.ndarray, radius: np.ndarray | float, step: float = 3.0) -> np.ndarray:
    """A smooth curve through points, every ``step`` mm: (m, 4) of x, y, z and radius."""
    points = np.asarray(points, dtype=np.float64)
    radius = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(points),))
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    curve = CubicSpline(along, np.column_stack([points, radius]), bc_type="natural")
    line = curve(np.linspace(0, along[-1], max(int(along[-1] / step) + 1, 2)))
    line[:, 3] = np.clip(line[:, 3], radius.min(), radius.max())
    return line


def line_tubes(line: np.ndarray) -> Tubes:
    """Tubes along a curve (m, 4) as :func:`smooth_line` gives it."""
    return Tubes(line[:-1, :3], line[1:, :3], line[:-1, 3], line[1:, 3])


def _pieces(tubes: Tubes, longest: float) -> Tubes:
    """Cut long tubes, so that each piece fits a tight box."""
    length = np.linalg.norm(tubes.end - tubes.start, axis=1)
    limit = np.maximum(2 * np.maximum(tubes.radius_start, tubes.radius_end), longest)
    count = np.maximum(np.ceil(length / limit).astype(int), 1)
    owner = np.repeat(np.arange(len(tubes)), count)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    place = np.arange(len(owner)) - first[owner]
    low, high = place / count[owner], (place + 1) / count[owner]
    run, widen = tubes.end - tubes.start, tubes.radius_end - tubes.radius_start
    return Tubes(
        tubes.start[owner] + run[owner] * low[:, None],
        tubes.start[owner] + run[owner] * high[:, None],
        tubes.radius_start[owner] + widen[owner] * low,
        tubes.radius_start[owner] + widen[owner] * high,
    )


def _boxes(tubes: Tubes, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """First voxel (n, 3) and size (n, 3) of a box within the grid around each piece.

    Sizes are rounded up, so that many boxes share one; 0 if a piece is outside the grid.
    """
    middle = grid.index_of((tubes.start + tubes.end) / 2)
    reach = np.abs(tubes.end - tubes.start)[:, ::-1] / 2
    reach = reach + (np.maximum(tubes.radius_start, tubes.radius_end) + grid.pixel / 2)[:, None]
    reach = reach / np.asarray(grid.spacing)
    shape = np.asarray(grid.shape)
    first = np.maximum(np.ceil(middle - reach).astype(np.int64), 0)
    last = np.minimum(np.floor(middle + reach).astype(np.int64), shape - 1)
    size = np.maximum(last - first + 1, 0)
    size = np.where(size > 1, (size + 2) // 3 * 3, size)
    size = np.minimum(size, shape) * (size > 0).all(1)[:, None]
    return np.minimum(first, shape - size), size


def _box_coverage(
    piece: Tubes, first: np.ndarray, size: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Voxel indices and coverage of pieces that share a box size, flattened."""
    index = [first[:, axis, None] + np.arange(size[axis]) for axis in range(3)]
    slices, rows, cols = index
    flat = (slices[:, :, None, None] * grid.shape[1] + rows[:, None, :, None]) * grid.shape[
        2
    ] + cols[:, None, None, :]
    wide = (-1, 1, 1, 1)
    start = [piece.start[:, i].astype(np.float32)[:, None] for i in range(3)]
    rx, ry, rz = (
        (piece.end - piece.start)[:, i].astype(np.float32).reshape(wide) for i in range(3)
    )
    ax, ay, az = (
        (places * grid.spacing[2 - i] + grid.origin[i]).astype(np.float32) - start[i]
        for i, places in enumerate((cols, rows, slices))
    )
    ax, ay, az = ax[:, None, None, :], ay[:, None, :, None], az[:, :, None, None]
    length = np.maximum(rx * rx + ry * ry + rz * rz, np.float32(1e-6))
    along = np.clip((ax * rx + ay * ry + az * rz) / length, 0, 1)
    distance = np.sqrt((ax - along * rx) ** 2 + (ay - along * ry) ** 2 + (az - along * rz) ** 2)
    thin = piece.radius_start.astype(np.float32).reshape(wide)
    radius = thin + along * (piece.radius_end.astype(np.float32).reshape(wide) - thin)
    width = np.float32(grid.pixel)
    filled = np.clip((radius - distance) / width + np.float32(0.5), 0, 1)
    filled *= np.minimum(np.float32(np.pi) * (radius / width) ** 2, 1)
    seen = filled > 0
    return flat[seen], filled[seen]


def paint_tubes(volume: np.ndarray, grid: Grid, tubes: Tubes) -> None:
    """Raise ``volume`` to the coverage of the tubes, in place.

    Args:
        volume: uint8 (slices, rows, cols) of ``grid``, C-contiguous; 255 = wholly inside.
            Where tubes meet, the larger coverage is kept, so their order does not matter. Tubes
            thinner than a pixel give the share of the pixel that they fill.
    """
    if not len(tubes):
        return
    tubes = _pieces(tubes, 2.5 * grid.pixel)
    first, size = _boxes(tubes, grid)
    near = np.flatnonzero(size.all(1))
    tubes, first, size = tubes.where(near), first[near], size[near]
    flat_volume = volume.reshape(-1)
    kind = np.ravel_multi_index(tuple(size.T), tuple(n + 1 for n in grid.shape))
    order = np.argsort(kind, kind="stable")
    bounds = np.flatnonzero(np.diff(kind[order], prepend=-1, append=-1))
    for low, high in itertools.pairwise(bounds):
        box = size[order[low]]
        batch = max(_BATCH // int(box.prod()), 1)
        for begin in range(low, high, batch):
            chosen = order[begin : min(begin + batch, high)]
            flat, filled = _box_coverage(tubes.where(chosen), first[chosen], box, grid)
            np.maximum.at(flat_volume, flat, np.rint(filled * 255).astype(np.uint8))
