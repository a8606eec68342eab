"""Geometry of a synthetic study: grids in millimetres, and smooth fields on coarse ones.

Positions are (x, y, z) in millimetres, x to the patient's left, y to the back, z to the head
(LPS). Arrays are (slices, rows, cols), so slice k is at ``origin[2] + k * spacing[0]``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from scipy import ndimage

#: Number of slices evaluated at once: few enough to fit into the processor's cache.
_SLAB = 8


@dataclass(frozen=True)
class Grid:
    """Regular sampling of space.

    Attributes:
        shape: (slices, rows, cols).
        spacing: millimetres between slices, rows and columns.
        origin: (x, y, z) of the centre of voxel [0, 0, 0], in millimetres.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]

    @classmethod
    def covering(cls, low: np.ndarray, high: np.ndarray, step: float) -> "Grid":
        """The grid of isotropic ``step`` from (x, y, z) ``low`` to at least ``high``."""
        size = np.ceil((np.asarray(high) - low) / step).astype(int) + 1
        x, y, z = (float(v) for v in low)
        return cls((int(size[2]), int(size[1]), int(size[0])), (step,) * 3, (x, y, z))

    @property
    def pixel(self) -> float:
        """Mean in-plane spacing, in millimetres."""
        return (self.spacing[1] + self.spacing[2]) / 2

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and z of the voxel centres, float32, shaped to broadcast to ``shape``."""
        x, y, z = (
            np.float32(self.origin[i])
            + np.arange(self.shape[2 - i], dtype=np.float32) * np.float32(self.spacing[2 - i])
            for i in range(3)
        )
        return x[None, None, :], y[None, :, None], z[:, None, None]

    def z_of(self, k: int) -> float:
        """Height of slice ``k``, in millimetres."""
        return self.origin[2] + k * self.spacing[0]

    def index_of(self, points: np.ndarray) -> np.ndarray:
        """Fractional (slice, row, col) of points (n, 3) given as (x, y, z)."""
        offset = (np.asarray(points, dtype=np.float64) - self.origin)[..., ::-1]
        return offset / np.asarray(self.spacing)

    def point_of(self, index: np.ndarray) -> np.ndarray:
        """(x, y, z) of indices (n, 3) given as (slice, row, col)."""
        return (np.asarray(index, dtype=np.float64) * self.spacing)[..., ::-1] + self.origin


@dataclass(frozen=True)
class Field:
    """A smooth quantity sampled on a coarse grid: a signed distance, or a texture.

    Attributes:
        values: float32 (slices, rows, cols) of ``grid``; outside, the border value continues.
    """

    values: np.ndarray
    grid: Grid

    def _between(self, z: float) -> tuple[int, int, np.float32]:
        """The samples below and above a height, and its fractional position between them."""
        place = (z - self.grid.origin[2]) / self.grid.spacing[0]
        place = min(max(place, 0.0), self.grid.shape[0] - 1.0)
        below = min(int(place), max(self.grid.shape[0] - 2, 0))
        above = min(below + 1, self.grid.shape[0] - 1)
        return below, above, np.float32(place - below)

    def plane(self, z: float, target: Grid) -> np.ndarray:
        """The field on the pixels of ``target`` at height ``z``: float32 (rows, cols)."""
        below, above, part = self._between(z)
        source = self.values[below] * (1 - part) + self.values[above] * part
        scale_x, scale_y = (target.spacing[2 - i] / self.grid.spacing[2 - i] for i in (0, 1))
        shift_x, shift_y = (
            (target.origin[i] - self.grid.origin[i]) / self.grid.spacing[2 - i] for i in (0, 1)
        )
        return cv2.warpAffine(
            source,
            np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y]]),
            (target.shape[2], target.shape[1]),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )

    @cached_property
    def _lowest(self) -> np.ndarray:
        return self.values.min((1, 2))

    def reaches(self, level: float, z: float) -> bool:
        """Whether a distance field, in mm, may be as low as ``level`` at height ``z``."""
        below, above, _ = self._between(z)
        # The cubic interpolation overshoots by less than the difference of four samples.
        least = min(self._lowest[below], self._lowest[above])
        return bool(least < level + 4 * max(self.grid.spacing))

    def at(self, points: np.ndarray) -> np.ndarray:
        """The field at points (n, 3), linear between samples: float32 (n,)."""
        index = self.grid.index_of(points)
        return ndimage.map_coordinates(self.values, index.T, order=1, mode="nearest")


def coverage(distance: np.ndarray, width: float) -> np.ndarray:
    """Share of a pixel inside a surface: 1 inside, 0 outside, a ramp of ``width`` mm between.

    ``distance`` is signed, in millimetres, negative inside.
    """
    return np.clip(np.float32(0.5) - distance * np.float32(1 / width), 0, 1)


def in_slabs(function: Callable[..., np.ndarray], *fields: np.ndarray) -> np.ndarray:
    """``function(*fields)``, evaluated on a few slices of the fields at a time.

    Writing large intermediate arrays to memory would take longer than the computation.

    Args:
        fields: with the same number of slices, or one slice for all.
    """
    count = max(len(field) for field in fields)
    out = np.empty(0)
    for k in range(0, count, _SLAB):
        slab = slice(k, k + _SLAB)
        part = function(*(field if len(field) == 1 else field[slab] for field in fields))
        if not k:
            out = np.empty((count, *part.shape[1:]), dtype=part.dtype)
        out[slab] = part
    return out


def ellipsoid(
    axes: tuple[np.ndarray, np.ndarray, np.ndarray],
    centre: np.ndarray,
    radii: np.ndarray,
    frame: np.ndarray | None = None,
) -> np.ndarray:
    """Signed distance (nearly) to an ellipsoid, negative inside, on broadcast x, y, z.

    Args:
        frame: (3, 3), the directions of the three radii as rows; the axes of space by default.
    """

    def distance(*axes: np.ndarray) -> np.ndarray:
        offset = [axis - np.float32(c) for axis, c in zip(axes, centre)]
        if frame is not None:
            x, y, z = offset
            offset = [
                np.float32(u) * x + np.float32(v) * y + np.float32(w) * z for u, v, w in frame
            ]
        (x, y, z), (rx, ry, rz) = offset, (np.float32(r) for r in radii)
        near = np.sqrt((x / rx) ** 2 + (y / ry) ** 2 + (z / rz) ** 2)
        steep = (x / rx**2) ** 2 + (y / ry**2) ** 2 + (z / rz**2) ** 2
        return near * (near - 1) / np.sqrt(np.maximum(steep, np.float32(1e-8)))

    return in_slabs(distance, *axes)


def smooth_union(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """The smaller of two signed distances, with the crease rounded over ``blend`` mm."""

    def union(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        part = np.clip(np.float32(0.5) + (b - a) * np.float32(0.5 / blend), 0, 1)
        return b + (a - b) * part - np.float32(blend) * part * (1 - part)

    return in_slabs(union, a, b)


def smooth_difference(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """The part of ``a`` outside ``b``, with the crease rounded over ``blend`` mm."""

    def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        part = np.clip(np.float32(0.5) + (a + b) * np.float32(0.5 / blend), 0, 1)
        return (a + b) * part - b + np.float32(blend) * part * (1 - part)

    return in_slabs(difference, a, b)


def random_field(rng: np.random.Generator, grid: Grid, size: float) -> Field:
    """Random texture of mean 0 and variance about 1 with blobs of about ``size`` mm."""
    step = max(size / 2.0, 1e-3)
    slices, rows, cols = (int((n - 1) * s / step) + 4 for n, s in zip(grid.shape, grid.spacing))
    shape = (slices, rows, cols)
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, 0.8, mode="wrap")
    noise /= np.float32(noise.std() + 1e-6)
    x, y, z = (float(o - step) for o in grid.origin)
    return Field(noise, Grid(shape, (step,) * 3, (x, y, z)))
