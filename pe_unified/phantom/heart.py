"""The four chambers, with the ratio of the ventricles' diameters as drawn for the patient."""

from dataclasses import dataclass

import numpy as np

from pe_unified.phantom.anatomy import Anatomy, HeartFrame
from pe_unified.phantom.grid import Field, Grid, ellipsoid, smooth_difference, smooth_union
from pe_unified.phantom.study_plan import PaintingPlan

_STEP = 2.0
#: Septum and free walls of the ventricles, mm.
_SEPTUM, _LEFT_WALL, _RIGHT_WALL = 9.0, 9.5, 3.0


@dataclass(frozen=True)
class Heart:
    """Signed distances, mm, negative inside; ``muscle`` is the whole heart.

    ``ratio`` is the diameter of the right ventricle over that of the left, as shaped.
    """

    muscle: Field
    right_ventricle: Field
    left_ventricle: Field
    right_atrium: Field
    left_atrium: Field
    ratio: float


def build_heart(plan: PaintingPlan, anatomy: Anatomy) -> Heart:
    """Shape the chambers in the anatomy's heart frame.

    The right ventricle is widened or narrowed until the ratio of the widest diameters across
    the septum is the plan's, as far as lungs and diaphragm leave it room; ``Heart.ratio`` is
    what came of it.
    """
    frame = anatomy.heart
    reach = np.abs(frame.axes).T @ (frame.radii * 1.05) + 16
    grid = Grid.covering(frame.centre - reach, frame.centre + reach, _STEP)
    limit = _resample(anatomy.heart_limit, grid)
    atrium = np.minimum(_resample(anatomy.left_atrium, grid), 40)
    room = 2 * frame.radii[1] - _SEPTUM - _LEFT_WALL - _RIGHT_WALL - 4
    share = plan.rv_lv_ratio / (1 + plan.rv_lv_ratio)
    for _ in range(4):
        shapes = _shape(frame, grid, limit, atrium, share * room, (1 - share) * room)
        ratio = measure_rv_lv(shapes["right"] < 0, shapes["left"] < 0, grid, frame)
        drawn = share / (1 - share)
        if abs(ratio - plan.rv_lv_ratio) < 0.02:
            break
        drawn = float(np.clip(drawn * (plan.rv_lv_ratio / ratio) ** 1.2, 0.35, 2.4))
        share = drawn / (1 + drawn)
    return Heart(
        muscle=Field(shapes["whole"], grid),
        right_ventricle=Field(shapes["right"], grid),
        left_ventricle=Field(shapes["left"], grid),
        right_atrium=Field(shapes["right_atrium"], grid),
        left_atrium=Field(atrium, grid),
        ratio=ratio,
    )


def _shape(
    frame: HeartFrame,
    grid: Grid,
    limit: np.ndarray,
    atrium: np.ndarray,
    right_mm: float,
    left_mm: float,
) -> dict[str, np.ndarray]:
    """Distances to the chambers for given widths of the ventricles, mm."""
    axes = grid.axes()
    apex_mm, across_mm, up_mm = frame.radii
    septum = -across_mm + 2 + _LEFT_WALL + left_mm

    def chamber(local: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        centre = frame.to_body(np.array([local]))[0]
        return ellipsoid(axes, centre, np.array(radii), frame.axes)

    long = 0.56 * apex_mm
    left_centre = (0.18 * apex_mm, septum - left_mm / 2, 0.0)
    left = chamber(left_centre, (long, left_mm / 2, 0.98 * left_mm / 2 + 2))
    shell = chamber(
        left_centre, (long + 9, left_mm / 2 + _SEPTUM, 0.98 * left_mm / 2 + 2 + _LEFT_WALL)
    )
    # The right ventricle wraps around the septum: an ellipsoid less the left one's shell.
    depth = 0.5 * left_mm
    right = chamber(
        (0.1 * apex_mm, septum + _SEPTUM + (right_mm - depth) / 2, -3.0),
        (0.6 * apex_mm, (right_mm + depth) / 2, 0.72 * up_mm),
    )
    right = smooth_difference(right, shell, 2.0)
    right_atrium = chamber(
        (-0.62 * apex_mm, 0.42 * across_mm, -2.0), (0.36 * apex_mm, 0.46 * across_mm, 0.56 * up_mm)
    )
    right_atrium = smooth_difference(right_atrium, atrium - 2.5, 3.0)
    right = smooth_difference(right, right_atrium - 2.0, 2.0)
    left = smooth_difference(left, atrium - 2.0, 2.0)
    right = smooth_difference(right, atrium - 3.0, 2.0)
    whole = smooth_union(shell, right - _RIGHT_WALL, 5)
    whole = smooth_union(whole, right_atrium - 2.5, 6)
    whole = smooth_union(whole, atrium - 2.0, 4)
    return {
        "whole": np.maximum(whole, limit),
        "right": np.maximum(right, limit + _RIGHT_WALL),
        "left": np.maximum(left, limit + 6),
        "right_atrium": np.maximum(right_atrium, limit + 2.5),
    }


def _resample(field: Field, grid: Grid) -> np.ndarray:
    return np.stack([field.plane(grid.z_of(k), grid) for k in range(grid.shape[0])])


def measure_rv_lv(right: np.ndarray, left: np.ndarray, grid: Grid, frame: HeartFrame) -> float:
    """Ratio of the ventricles' widest diameters across the septum, from label masks.

    Args:
        right, left: bool (slices, rows, cols) of ``grid``.
    """
    widths = []
    for mask in (right, left):
        points = grid.point_of(np.argwhere(mask)) - frame.centre
        local = sum(points[:, i, None] * frame.axes[None, :, i] for i in range(3))
        # Chords along the second axis, within thin columns of the other two.
        column = np.floor(local[:, [0, 2]] / 6.0).astype(int)
        _, owner = np.unique(column, axis=0, return_inverse=True)
        owner = owner.ravel()
        low = np.full(owner.max() + 1, np.inf)
        high = np.full(owner.max() + 1, -np.inf)
        np.minimum.at(low, owner, local[:, 1])
        np.maximum.at(high, owner, local[:, 1])
        widths.append(float(np.percentile(high - low, 98)))
    return widths[0] / widths[1]
