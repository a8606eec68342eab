"""The chest wall around any thorax: skin, fat, muscle, ribs, sternum, shoulder blades."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pe_unified.phantom.anatomy import Anatomy
from pe_unified.phantom.distance import planar_distance
from pe_unified.phantom.grid import Field, Grid, ellipsoid, smooth_difference, smooth_union
from pe_unified.phantom.study_plan import PaintingPlan
from pe_unified.phantom.tubes import Tubes, line_tubes, no_tubes, smooth_line

_ANGLES = 120
#: How fast the body narrows above and below the widest chest, mm per mm.
_TAPER_UP, _TAPER_DOWN = 0.42, 0.1


@dataclass(frozen=True)
class Wall:
    """The chest wall of one patient; distances are signed, mm, negative inside.

    Attributes:
        body: distance to the skin.
        muscle: distance to the outer face of the muscles; fat lies between it and the skin.
        paraspinal: distance to the muscles on both sides of the spine.
        breast: distance to glandular tissue.
        bone, marrow: outer shape of ribs, sternum, scapulae and clavicles, and their inside.
        cartilage: costal cartilage.
        back_y: of the rearmost skin, which rests on the table, mm.
        middle_x: of the body, mm.
    """

    body: Field
    muscle: Field
    paraspinal: Field
    breast: Field
    bone: Tubes
    marrow: Tubes
    cartilage: Tubes
    back_y: float
    middle_x: float


@dataclass(frozen=True)
class _Contour:
    """The inner wall of the chest in polar form.

    Attributes:
        radius: (slices, angles) mm from ``centre``; angle 0 is the front, +90 degrees the left.
        centre: (x, y), mm.
    """

    radius: np.ndarray
    centre: tuple[float, float]
    grid: Grid

    def point(self, angle: np.ndarray, z: np.ndarray, outward: np.ndarray | float) -> np.ndarray:
        """(n, 3) positions ``outward`` mm outside the contour at these angles and heights."""
        angle, z = np.broadcast_arrays(np.asarray(angle, float), np.asarray(z, float))
        row = (z - self.grid.origin[2]) / self.grid.spacing[0]
        col = (angle / (2 * np.pi)) % 1.0 * _ANGLES
        wrapped = np.concatenate([self.radius, self.radius[:, :1]], axis=1)
        reach = ndimage.map_coordinates(wrapped, [row, col], order=1, mode="nearest") + outward
        return np.stack(
            [
                self.centre[0] + np.sin(angle) * reach,
                self.centre[1] - np.cos(angle) * reach,
                z,
            ],
            axis=1,
        )


def _polar(cavity: np.ndarray, grid: Grid, centre: tuple[float, float]) -> _Contour:
    angle = np.arange(_ANGLES) / _ANGLES * 2 * np.pi
    reach = np.arange(0, 200, 2.0)
    x = centre[0] + np.sin(angle)[:, None] * reach
    y = centre[1] - np.cos(angle)[:, None] * reach
    cols = (x - grid.origin[0]) / grid.spacing[2]
    rows = (y - grid.origin[1]) / grid.spacing[1]
    radius = np.empty((grid.shape[0], _ANGLES))
    for k, plane in enumerate(cavity):
        values = ndimage.map_coordinates(plane, [rows, cols], order=1, mode="nearest")
        inside = values < 0
        last = reach.size - 1 - np.argmax(inside[:, ::-1], axis=1)
        radius[k] = np.where(inside.any(1), reach[last], 0)
    radius = ndimage.gaussian_filter(radius, (2.5, 2.0), mode=("nearest", "wrap"))
    return _Contour(radius, centre, grid)


def _hull(cavity: np.ndarray, grid: Grid) -> np.ndarray:
    """The cavity, tapering slowly above its widest part, where shoulders and neck are."""
    hull = cavity.copy()
    for k in range(1, len(hull)):
        hull[k] = np.minimum(hull[k], hull[k - 1] + np.float32(_TAPER_UP * grid.spacing[0]))
    for k in range(len(hull) - 2, -1, -1):
        hull[k] = np.minimum(hull[k], hull[k + 1] + np.float32(_TAPER_DOWN * grid.spacing[0]))
    return ndimage.gaussian_filter(hull, 1.0)


def _bump(angle: np.ndarray, at: float, spread: float) -> np.ndarray:
    """A smooth hump of height 1 on both sides, ``at`` and ``spread`` in degrees."""
    away = np.abs(np.abs(np.degrees(angle)) - at)
    return np.exp(-((away / spread) ** 2))


def _thickness(
    plan: PaintingPlan, angle: np.ndarray, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Muscle and fat over the ribs, mm, by angle from the front and height in the chest."""
    upper = 1 / (1 + np.exp(-(t - 0.55) / 0.08))
    size = plan.scale * plan.muscle
    muscle = 13 + 12 * size * upper * _bump(angle, 45, 32)
    muscle += 15 * size * _bump(angle, 112, 32) * (0.35 + 0.65 * upper)
    muscle += 12 * size * _bump(angle, 150, 22)
    fat = plan.fat_mm * (0.75 + 0.35 * _bump(angle, 95, 40) + 0.12 * _bump(angle, 20, 30))
    fat = fat * (1.15 - 0.3 * upper)
    return muscle.astype(np.float32), fat.astype(np.float32)


def _ribs(plan: PaintingPlan, contour: _Contour, anatomy: Anatomy) -> tuple[Tubes, Tubes, Tubes]:
    rng = plan.rng("ribs")
    height = anatomy.apex_z - anatomy.base_z
    step = height / 9.3 * rng.uniform(0.97, 1.04)
    bone, cartilage = no_tubes(), no_tubes()
    size = plan.scale
    for pair in range(12):
        behind = anatomy.apex_z + 4 - pair * step
        drop = size * min(26 + 22 * pair, 92) * rng.uniform(0.92, 1.08)
        last = np.radians(np.interp(pair, [0, 2, 6, 9, 11], [38, 30, 42, 62, 100]))
        s = np.linspace(0, 1, 26)
        angle = np.radians(166) + (last - np.radians(166)) * s
        z = behind - drop * (s**1.15) + 5 * np.sin(np.pi * s)
        outward = 6.0 - 1.5 * np.exp(-((s / 0.12) ** 2))
        rise = rng.uniform(14, 34) + 9 * max(pair - 3, 0)
        for side in (-1, 1):
            path = contour.point(side * angle, z, outward)
            wide = np.interp(s, [0, 0.2, 1], [3.6, 3.1, 3.3]) * size
            for offset in (-3.2, 0.0, 3.2):
                line = np.column_stack([path + np.array([0, 0, offset * size]), wide])
                bone = bone + line_tubes(line)
            if pair < 7:
                u = np.linspace(0, 1, 8)
                inner = contour.point(
                    side * (last + (np.radians(9) - last) * u), z[-1] + rise * u**1.4, 6.5
                )
                cartilage = cartilage + line_tubes(np.column_stack([inner, np.full(8, 5.2 * size)]))
    return bone, bone.grown(-1.5), cartilage


def _sternum(plan: PaintingPlan, contour: _Contour, anatomy: Anatomy) -> tuple[Tubes, Tubes]:
    top = anatomy.apex_z - 38 * plan.scale
    z = np.linspace(top, top - 168 * plan.scale, 40)
    half = np.interp(z, [top - 168, top - 60, top - 45, top], [12.0, 15.0, 11.0, 22.0])
    middle = contour.point(np.zeros(40), z, 8.0)
    bone = no_tubes()
    for share in np.linspace(-1, 1, 11):
        line = np.column_stack([middle, np.full(40, 5.2 * plan.scale)])
        line[:, 0] += half * share * plan.scale
        line[:, 1] += 2.5 * share**2
        bone = bone + line_tubes(line)
    return bone, bone.grown(-1.4)


def _shoulder(plan: PaintingPlan, contour: _Contour, anatomy: Anatomy) -> Tubes:
    """Shoulder blades as thin sheets, and clavicles."""
    height = anatomy.apex_z - anatomy.base_z
    solid, blades = no_tubes(), no_tubes()
    low, high = anatomy.apex_z - 0.5 * height, anatomy.apex_z + 4
    for side in (-1, 1):
        for z in np.arange(low, high, 3.0):
            part = (z - low) / (high - low)
            first, last = np.radians(141 + 8 * part), np.radians(141 - 12 - 38 * part)
            angle = side * np.linspace(first, last, 9)
            away = 19 + 10 * np.linspace(0, 1, 9) ** 2 * part + 26 * max(part - 0.65, 0)
            wide = np.interp(np.linspace(0, 1, 9), [0, 0.15, 0.8, 1], [2.6, 1.7, 2.2, 4.2])
            points = contour.point(angle, np.full(9, z), away * plan.scale)
            blades = blades + line_tubes(np.column_stack([points, wide * (0.8 + 0.3 * part)]))
        top = anatomy.apex_z - 36 * plan.scale
        start = contour.point(np.array([side * 0.3]), np.array([top]), 12.0)[0]
        course = start + np.array([[0, 0, 0], [side * 38, 4, 16], [side * 85, 34, 30]]) * plan.scale
        solid = solid + line_tubes(smooth_line(course, 5.4 * plan.scale))
    return blades + solid


def _back_muscles(plan: PaintingPlan, anatomy: Anatomy, grid: Grid) -> np.ndarray:
    """Distance to the muscles on both sides of the spinous processes."""
    x, y, z = grid.axes()
    spine_x, spine_y = (
        np.interp(z, anatomy.spine[:, 2], anatomy.spine[:, i]).astype(np.float32) for i in (0, 1)
    )
    size = plan.scale * (0.9 + 0.1 * plan.muscle)
    u = (np.abs(x - spine_x) - 20 * size) / (33 * size)
    v = (y - spine_y - 33 * size) / (22 * size)
    return ((np.sqrt(u * u + v * v) - 1) * np.float32(22 * size)).astype(np.float32)


def _with_room(cavity: Field, margin: float) -> tuple[np.ndarray, Grid]:
    """The cavity's mask with at least ``margin`` mm of room on all four sides, and its grid."""
    mask, grid = cavity.values < 0, cavity.grid
    x, y, z = grid.origin
    pads, origin = [(0, 0)], [z]
    for axis, start in ((1, y), (2, x)):
        step = grid.spacing[axis]
        inside = np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis})))
        need = int(np.ceil(margin / step))
        low = max(need - int(inside[0]), 0)
        high = max(need - (mask.shape[axis] - 1 - int(inside[-1])), 0)
        pads.append((low, high))
        origin.append(start - low * step)
    mask = np.pad(mask, pads)
    slices, rows, cols = mask.shape
    return mask, Grid((slices, rows, cols), grid.spacing, (origin[2], origin[1], z))


def build_wall(plan: PaintingPlan, anatomy: Anatomy) -> Wall:
    """Put a chest wall around an anatomy."""
    cavity, grid = _with_room(anatomy.cavity, 62 + plan.fat_mm)
    inner = planar_distance(cavity, grid, far=60.0)
    hull = _hull(inner, grid)
    x, y, z = grid.axes()
    seen = (z[:, 0, 0] > anatomy.base_z) & (z[:, 0, 0] < anatomy.apex_z)
    rows = np.flatnonzero(cavity[seen].any((0, 2)))
    centre = (
        float(np.median(anatomy.spine[:, 0])),
        float(grid.origin[1] + (rows[0] + rows[-1]) / 2 * grid.spacing[1]),
    )
    contour = _polar(inner, grid, centre)
    height = anatomy.apex_z - anatomy.base_z
    t = (z - anatomy.base_z) / height
    angle = np.arctan2(x - centre[0], centre[1] - y)
    muscle_mm, fat_mm = _thickness(plan, angle, t)
    muscle = hull - muscle_mm
    back = centre[1] + (rows[-1] - rows[0]) / 2 * grid.spacing[1]
    paraspinal = _back_muscles(plan, anatomy, grid)
    muscle = smooth_union(muscle, paraspinal, 8)
    body = smooth_union(muscle, hull - 13, 6) - fat_mm
    spine_y = np.interp(z, anatomy.spine[:, 2], anatomy.spine[:, 1]).astype(np.float32)
    table = np.maximum(spine_y, np.float32(back - 34)) + 64 * plan.scale + 0.6 * plan.fat_mm
    body = smooth_difference(body, np.float32(1) * table - y + 0 * x, 14)
    breast = np.full(grid.shape, 50, dtype=np.float32)
    if plan.sex == "F":
        size = plan.scale * (30 + 0.9 * plan.fat_mm)
        axes = grid.axes()
        for side in (-1, 1):
            nipple = contour.point(
                np.array([side * 0.62]), np.array([anatomy.base_z + 0.5 * height]), 16.0
            )[0]
            radii = np.array([1.35 * size, 0.95 * size, 1.2 * size])
            body = smooth_union(body, ellipsoid(axes, nipple, radii), 16)
            breast = np.minimum(breast, ellipsoid(axes, nipple + np.array([0, -9, 0]), radii * 0.6))
    ribs, rib_marrow, cartilage = _ribs(plan, contour, anatomy)
    sternum, sternum_marrow = _sternum(plan, contour, anatomy)
    shoulder = _shoulder(plan, contour, anatomy)
    skin = Field(body, grid)
    shoulder = shoulder.where(np.maximum(skin.at(shoulder.start), skin.at(shoulder.end)) < -9)
    return Wall(
        body=skin,
        muscle=Field(muscle.astype(np.float32), grid),
        paraspinal=Field(paraspinal, grid),
        breast=Field(breast, grid),
        bone=ribs + sternum + shoulder,
        marrow=rib_marrow + sternum_marrow + shoulder.grown(-1.8),
        cartilage=cartilage,
        back_y=float(grid.origin[1] + np.flatnonzero((body < 0).any((0, 2)))[-1] * grid.spacing[1]),
        middle_x=centre[0],
    )
