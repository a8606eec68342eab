"""The four chambers of the heart, with a given ratio of the ventricles' diameters."""

from dataclasses import dataclass

import numpy as np

from pe_unified.phantom.anatomy import Anatomy, HeartFrame
from pe_unified.phantom.grid import (
    Field,
    Grid,
    ellipsoid,
    in_slabs,
    smooth_difference,
    smooth_union,
)
from pe_unified.phantom.study_plan import PaintingPlan

_STEP = 2.0
#: Thickness of the septum and of the free walls of the ventricles, mm.
_SEPTUM, _LEFT_WALL, _RIGHT_WALL = 9.0, 9.5, 3.0


@dataclass(frozen=True)
class Heart:
    """Signed distances, mm, negative inside; ``muscle`` is the whole heart.

    ``ratio`` is the resulting diameter of the right ventricle over that of the left.
    """

    muscle: Field
    right_ventricle: Field
    left_ventricle: Field
    right_atrium: Field
    left_atrium: Field
    ratio: float


def build_heart(plan: PaintingPlan, anatomy: Anatomy) -> Heart:
    """Shape the chambers in the anatomy's heart frame.

    The right ventricle is widened or narrowed until the ratio of the largest diameters across
    the septum is that of the plan, as far as lungs and diaphragm allow; ``Heart.ratio`` is the
    result.
    """
    frame = anatomy.heart
    reach = np.abs(frame.axes).T @ (frame.radii * 1.05) + 16
    grid = Grid.covering(frame.centre - reach, frame.centre + reach, _STEP)
    limit = _resample(anatomy.heart_limit, grid)
    left_atrium = np.minimum(_resample(anatomy.left_atrium, grid), 40)
    right_atrium = _right_atrium(frame, grid, left_atrium)
    around = (left_atrium, right_atrium, limit)
    room = 2 * frame.radii[1] - _SEPTUM - _LEFT_WALL - _RIGHT_WALL - 4
    share = plan.rv_lv_ratio / (1 + plan.rv_lv_ratio)
    for _ in range(4):
        shapes = _shapes(frame, share * room, (1 - share) * room)
        box = _box(grid, frame, shapes)
        _, right, left = _ventricles(shapes, frame, grid, around, box)
        corner = [part.start for part in box]
        widths = (_widest(np.argwhere(part < 0) + corner, grid, frame) for part in (right, left))
        ratio = next(widths) / next(widths)
        drawn = share / (1 - share)
        if abs(ratio - plan.rv_lv_ratio) < 0.02:
            break
        drawn = float(np.clip(drawn * (plan.rv_lv_ratio / ratio) ** 1.2, 0.35, 2.4))
        share = drawn / (1 + drawn)
    muscle, right, left = _ventricles(shapes, frame, grid, around)
    return Heart(
        muscle=Field(muscle, grid),
        right_ventricle=Field(right, grid),
        left_ventricle=Field(left, grid),
        right_atrium=Field(np.maximum(right_atrium, limit + 2.5), grid),
        left_atrium=Field(left_atrium, grid),
        ratio=ratio,
    )


@dataclass(frozen=True)
class _Shapes:
    """Ellipsoids of the ventricles: (centre, radii) in the heart's axes, mm.

    Attributes:
        left: lumen of the left ventricle; ``shell`` is its outer wall.
        right: lumen of the right ventricle, which wraps around the septum: without the shell.
    """

    left: tuple[np.ndarray, np.ndarray]
    shell: tuple[np.ndarray, np.ndarray]
    right: tuple[np.ndarray, np.ndarray]


def _shapes(frame: HeartFrame, right_mm: float, left_mm: float) -> _Shapes:
    """The ventricles for given widths, mm."""
    apex_mm, across_mm, up_mm = frame.radii
    septum = -across_mm + 2 + _LEFT_WALL + left_mm
    long, high = 0.56 * apex_mm, 0.98 * left_mm / 2 + 2
    middle = np.array([0.18 * apex_mm, septum - left_mm / 2, 0.0])
    depth = 0.5 * left_mm
    return _Shapes(
        left=(middle, np.array([long, left_mm / 2, high])),
        shell=(middle, np.array([long + 9, left_mm / 2 + _SEPTUM, high + _LEFT_WALL])),
        right=(
            np.array([0.1 * apex_mm, septum + _SEPTUM + (right_mm - depth) / 2, -3.0]),
            np.array([0.6 * apex_mm, (right_mm + depth) / 2, 0.72 * up_mm]),
        ),
    )


def _box(grid: Grid, frame: HeartFrame, shapes: _Shapes) -> tuple[slice, ...]:
    """The part of a grid that holds both ventricles."""
    corners = []
    for centre, radii in (shapes.left, shapes.right):
        reach = np.sqrt(((radii[:, None] * frame.axes) ** 2).sum(0)) + _STEP
        middle = frame.to_body(centre[None])[0]
        corners += [grid.index_of(middle - reach), grid.index_of(middle + reach)]
    low = np.maximum(np.floor(np.min(corners, axis=0)).astype(int), 0)
    high = np.ceil(np.max(corners, axis=0)).astype(int) + 1
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high))


def _ventricles(
    shapes: _Shapes,
    frame: HeartFrame,
    grid: Grid,
    around: tuple[np.ndarray, np.ndarray, np.ndarray],
    box: tuple[slice, ...] = (slice(None),) * 3,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances to the whole heart, the right and the left ventricle in a part of a grid, mm.

    Args:
        around: distances to the left atrium, the right atrium, and the room of the heart.
    """

    def distances(
        x: np.ndarray,
        y: np.ndarray,
        z: np.ndarray,
        left_atrium: np.ndarray,
        right_atrium: np.ndarray,
        limit: np.ndarray,
    ) -> np.ndarray:
        left, shell, right = (
            ellipsoid((x, y, z), frame.to_body(centre[None])[0], radii, frame.axes)
            for centre, radii in (shapes.left, shapes.shell, shapes.right)
        )
        right = smooth_difference(right, shell, 2.0)
        right = smooth_difference(right, right_atrium - 2.0, 2.0)
        left = smooth_difference(left, left_atrium - 2.0, 2.0)
        right = smooth_difference(right, left_atrium - 3.0, 2.0)
        whole = smooth_union(shell, right - _RIGHT_WALL, 5)
        whole = smooth_union(whole, right_atrium - 2.5, 6)
        whole = smooth_union(whole, left_atrium - 2.0, 4)
        parts = (
            np.maximum(whole, limit),
            np.maximum(right, limit + _RIGHT_WALL),
            np.maximum(left, limit + 6),
        )
        return np.stack(parts, axis=1)

    x, y, z = grid.axes()
    slices, rows, cols = box
    axes = x[:, :, cols], y[:, rows], z[slices]
    found = in_slabs(distances, *axes, *(field[box] for field in around))
    return found[:, 0], found[:, 1], found[:, 2]


def _right_atrium(frame: HeartFrame, grid: Grid, left_atrium: np.ndarray) -> np.ndarray:
    """Distance to the right atrium, next to the left one, mm."""
    apex_mm, across_mm, up_mm = frame.radii
    centre = frame.to_body(np.array([[-0.62 * apex_mm, 0.42 * across_mm, -2.0]]))[0]
    radii = np.array([0.36 * apex_mm, 0.46 * across_mm, 0.56 * up_mm])
    outside = ellipsoid(grid.axes(), centre, radii, frame.axes)
    return smooth_difference(outside, left_atrium - 2.5, 3.0)


def _resample(field: Field, grid: Grid) -> np.ndarray:
    return np.stack([field.plane(grid.z_of(k), grid) for k in range(grid.shape[0])])


def _widest(index: np.ndarray, grid: Grid, frame: HeartFrame) -> float:
    """Largest diameter across the septum of the voxels (n, 3) of a ventricle, mm."""
    points = grid.point_of(index) - frame.centre
    local = sum(points[:, i, None] * frame.axes[None, :, i] for i in range(3))
    # Chords along the second axis, within thin columns of the other two.
    column = np.floor(local[:, [0, 2]] / 6.0).astype(int)
    column -= column.min(0)
    _, owner = np.unique(column @ [column[:, 1].max() + 1, 1], return_inverse=True)
    low = np.full(owner.max() + 1, np.inf)
    high = np.full(owner.max() + 1, -np.inf)
    np.minimum.at(low, owner, local[:, 1])
    np.maximum.at(high, owner, local[:, 1])
    return float(np.percentile(high - low, 98))
