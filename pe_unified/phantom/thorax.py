"""A generated thorax: cavity, lungs, diaphragm, great vessels and airways of one person."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.interpolate import PchipInterpolator

from pe_unified.phantom.anatomy import Anatomy, HeartFrame
from pe_unified.phantom.distance import planar_distance
from pe_unified.phantom.grid import Field, Grid, ellipsoid, smooth_difference, smooth_union
from pe_unified.phantom.growth import GrowthRule
from pe_unified.phantom.lung_trees import grow_tree, lobe_of, stem_tubes
from pe_unified.phantom.study_plan import PaintingPlan
from pe_unified.phantom.tubes import Tubes, line_tubes, no_tubes, paint_tubes, smooth_line

#: Spacing of the coarse grid for the shapes, mm.
_STEP = 3.0

# Courses in a reference adult: (x, y, z, radius), mm; x to the left, y to the back, z up from
# the bottom of the lungs; the middle of the chest is at x = y = 0.
COURSES: dict[str, list[tuple[float, float, float, float]]] = {
    "aorta": [
        (2, -20, 104, 12),
        (-10, -26, 122, 15.5),
        (-17, -29, 150, 15.5),
        (-13, -26, 178, 14.5),
        (-2, -12, 194, 13.5),
        (14, 14, 197, 12.5),
        (24, 38, 186, 12),
        (27, 46, 160, 11.5),
        (24, 47, 110, 11),
        (17, 46, 50, 10.5),
        (10, 44, 0, 10),
        (6, 42, -60, 9.5),
    ],
    "brachiocephalic_artery": [(-8, -20, 194, 6.5), (-13, -10, 212, 6), (-20, -2, 245, 5)],
    "carotid": [(4, -2, 200, 4.5), (12, 0, 222, 4), (18, 4, 262, 3.5)],
    "subclavian": [(14, 14, 202, 5), (22, 20, 225, 4.8), (34, 22, 248, 4.5), (62, 12, 262, 4)],
    "svc": [(-30, -24, 212, 8), (-31, -20, 180, 9), (-32, -17, 150, 9), (-32, -16, 120, 9.5)],
    "brachiocephalic_left": [(46, -26, 244, 6), (22, -36, 222, 6.5), (-12, -34, 212, 7)],
    "brachiocephalic_right": [(-52, -14, 252, 6.5), (-36, -20, 234, 7), (-30, -24, 212, 7.5)],
    "trachea": [(0, 6, 330, 8.8), (0, 6, 260, 8.8), (-2, 15, 200, 8.8), (-2, 21, 166, 9.5)],
    "bronchus_right": [(-2, 21, 168, 8), (-20, 24, 152, 7.5), (-38, 27, 138, 7)],
    "bronchus_intermedius": [(-36, 27, 140, 6), (-42, 31, 120, 5.5), (-46, 36, 100, 4.5)],
    "bronchus_left": [(-2, 21, 168, 7.5), (20, 27, 150, 6.8), (42, 32, 136, 6.2)],
    "bronchus_lower_left": [(42, 32, 136, 5.2), (47, 39, 116, 4.8), (50, 44, 98, 4)],
    "ivc": [(-24, 14, -60, 10), (-24, 10, 40, 11), (-26, 2, 74, 11.5), (-28, -10, 98, 12)],
    "azygos": [(-7, 42, -40, 3), (-9, 40, 90, 3.5), (-12, 38, 165, 4), (-27, 10, 178, 4.5)],
    "oesophagus": [(6, 32, 330, 5), (5, 33, 220, 6), (5, 38, 150, 6), (9, 32, 70, 6.5)],
}

#: Great vessels by the blood they carry, and the courses that form them.
SYSTEMIC: dict[str, tuple[str, ...]] = {
    "aorta": ("aorta",),
    "arch_branches": ("brachiocephalic_artery", "carotid", "subclavian"),
    "svc": ("svc",),
    "ivc": ("ivc",),
    "azygos": ("azygos",),
    "brachiocephalic": ("brachiocephalic_left", "brachiocephalic_right"),
}
#: Pulmonary vessels in the mediastinum.
_CENTRAL = ("trunk", "right", "left")
#: Courses that carry air.
AIRWAYS = (
    "trachea",
    "bronchus_right",
    "bronchus_intermedius",
    "bronchus_left",
    "bronchus_lower_left",
)


@dataclass(frozen=True)
class _Build:
    """Differences of this person from the reference adult."""

    wide: float
    deep: float
    tall: float
    scale: float

    def place(self, points: np.ndarray) -> np.ndarray:
        """Reference positions (n, 3) in this person."""
        return np.asarray(points, dtype=np.float64) * (self.wide, self.deep, self.tall)


def _courses(rng: np.random.Generator, build: _Build) -> dict[str, Tubes]:
    """Every course of the table in this person."""
    tubes = {}
    for name, course in COURSES.items():
        table = np.array(course)
        jitter = rng.normal(0, 1.3, (len(table), 3))
        if name.startswith("bronchus") or name == "trachea":
            jitter[[0, -1]] = 0
        line = smooth_line(
            build.place(table[:, :3] + jitter), table[:, 3] * build.scale * rng.uniform(0.92, 1.1)
        )
        tubes[name] = line_tubes(line)
    return tubes


def _cavity(grid: Grid, rng: np.random.Generator, build: _Build, height: float) -> np.ndarray:
    """Distance to the inner wall of the chest, continued below the diaphragm."""
    x, y, z = grid.axes()
    t = z / height
    knots = np.array([-0.4, 0.0, 0.25, 0.5, 0.72, 0.86, 0.95, 1.02, 1.3])
    wide = np.array([112, 124, 129, 127, 110, 83, 55, 24, 20]) * build.wide
    deep = np.array([82, 87, 90, 86, 74, 58, 42, 20, 16]) * build.deep
    back = np.array([0, 0, 0, 3, 9, 16, 22, 26, 28]) * build.deep
    bend = rng.normal(0, 1.5, 3)
    a = PchipInterpolator(knots, wide)(t).astype(np.float32) + np.float32(bend[0])
    b = PchipInterpolator(knots, deep)(t).astype(np.float32)
    c = PchipInterpolator(knots, back)(t).astype(np.float32)
    u, v = np.abs(x) / a, (y - c) / b
    # Flatter at the front than at the back, as seen from above.
    power = np.float32(2.35)
    norm = (u**power + np.abs(v) ** power) ** (1 / power)
    slope = np.sqrt((u ** (power - 1) / a) ** 2 + (np.abs(v) ** (power - 1) / b) ** 2) / np.maximum(
        norm, np.float32(1e-3)
    ) ** (power - 1)
    return ((norm - 1) / np.maximum(slope, np.float32(1e-3))).astype(np.float32)


def _column(grid: Grid, build: _Build, height: float) -> np.ndarray:
    """Distance to the middle of the chest that is never lung: fat in front, spine behind."""
    x, y, z = grid.axes()
    t = z / height
    knots = np.array([-140, -75, -55, -20, 20, 45, 62, 100], dtype=float) * build.deep
    half = PchipInterpolator(knots, np.array([26, 22, 7, 10, 14, 19, 25, 33]))(y)
    top = np.clip((t - 0.72) / 0.25, 0, 1)
    half = half * (1 + 0.1 * top) + 15 * top * np.exp(-(((y - 5) / 38) ** 2))
    return (np.abs(x) - half * build.wide).astype(np.float32)


def _domes(grid: Grid, rng: np.random.Generator, build: _Build, height: float) -> np.ndarray:
    """Distance to the domes of the liver and the left diaphragm."""
    axes = grid.axes()
    parts = []
    for x, share in ((-66, rng.uniform(0.31, 0.37)), (64, rng.uniform(0.25, 0.31))):
        tall = 105 * build.tall
        centre = np.array([x * build.wide, 4 * build.deep, share * height - tall])
        radii = np.array([64 * build.wide, 83 * build.deep, tall])
        parts.append(ellipsoid(axes, centre, radii))
    middle = np.array([6.0 * build.wide, -22.0 * build.deep, 0.15 * height - 105 * build.tall])
    radii = np.array([72.0 * build.wide, 58.0 * build.deep, 105 * build.tall])
    parts.append(ellipsoid(axes, middle, radii))
    return smooth_union(smooth_union(parts[0], parts[1], 8.0), parts[2], 14.0)


def heart_axes(rng: np.random.Generator) -> np.ndarray:
    """Unit rows (3, 3): towards the apex, from left to right ventricle, across both."""
    toward = np.array([0.68, -0.56, -0.47]) + rng.normal(0, 0.05, 3)
    toward /= np.sqrt((toward**2).sum())
    right = np.array([-0.62, -0.75, 0.1])
    right -= toward * (right * toward).sum()
    right /= np.sqrt((right**2).sum())
    return np.stack([toward, right, np.cross(toward, right)])


def _heart(rng: np.random.Generator, build: _Build) -> HeartFrame:
    size = build.scale * rng.uniform(0.94, 1.08)
    return HeartFrame(
        build.place(np.array([15.0, -28.0, 92.0])),
        heart_axes(rng),
        np.array([66.0, 50.0, 45.0]) * size,
    )


def _seeds(
    rng: np.random.Generator, lung: Field, height: float, count: int
) -> dict[str, np.ndarray]:
    """Points spread over each lobe: {lobe: (n, 3)}, mm."""
    index = np.argwhere(lung.values < -5)
    z_ok = lung.grid.point_of(index)[:, 2] > 0
    index = index[z_ok]
    index = index[rng.permutation(len(index))[:count]]
    points = lung.grid.point_of(index) + rng.uniform(-1.4, 1.4, (len(index), 3))
    lobes = lobe_of(points, height)
    return {str(name): points[lobes == name] for name in np.unique(lobes)}


def procedural_anatomy(plan: PaintingPlan) -> Anatomy:
    """Generate a chest for the patient of a study; only the plan is needed."""
    rng = plan.rng("thorax")
    scale = plan.scale
    build = _Build(
        wide=scale * rng.uniform(0.96, 1.06),
        deep=scale * rng.uniform(0.94, 1.1),
        tall=scale * rng.uniform(0.93, 1.08),
        scale=scale,
    )
    height = 262 * build.tall
    low = np.array([-160.0 * build.wide, -115.0 * build.deep, -25.0])
    grid = Grid.covering(low, np.array([-low[0], -low[1], height + 30]), _STEP)
    courses = _courses(rng, build)
    heart = _heart(rng, build)
    artery_lines = stem_tubes(rng, build.place, scale, "arteries")
    vein_lines = stem_tubes(rng, build.place, scale, "veins")
    cavity = _cavity(grid, rng, build, height)
    central = np.zeros(grid.shape, dtype=np.uint8)
    around = no_tubes()
    for name, tubes in courses.items():
        outlying = name in ("subclavian", "brachiocephalic_right", "brachiocephalic_left")
        around += tubes.grown(1.0 if outlying else 4.5)
    for name, line in (artery_lines | vein_lines).items():
        around += line_tubes(line).grown(3.0 if name in _CENTRAL else 0.5)
    paint_tubes(central, grid, around)
    middle = planar_distance(central >= 128, grid)
    middle = smooth_union(middle, _column(grid, build, height), 9)
    middle = smooth_union(
        middle, ellipsoid(grid.axes(), heart.centre, heart.radii + 4, heart.axes), 10
    )
    abdomen = _domes(grid, rng, build, height)
    air = smooth_difference(smooth_difference(cavity + 1.5, middle, 5), abdomen, 4)
    lung = Field(ndimage.gaussian_filter(air, 0.7), grid)
    atrium = ellipsoid(
        grid.axes(), build.place(np.array([3.0, 10.0, 116.0])), np.array([33, 18, 21]) * scale
    )
    seeds = _seeds(rng, lung, height, 11000)
    t = np.linspace(-0.2, 1.2, 36)
    bend = np.interp(t, [0, 0.5, 0.8, 1.1], [58, 60, 57, 46]) * build.deep
    airway = no_tubes()
    for name in AIRWAYS:
        airway = airway + courses[name]
    arteries = grow_tree(rng, artery_lines, seeds, "arteries", GrowthRule())
    veins = grow_tree(rng, vein_lines, seeds, "veins", GrowthRule(fewest=5))
    domes, walls = Field(abdomen, grid), Field(-cavity, grid)
    return Anatomy(
        name="procedural",
        lung=lung,
        cavity=Field(cavity, grid),
        abdomen=domes,
        heart=heart,
        heart_limit=Field(np.maximum(cavity, abdomen * np.float32(-1)) + 2, grid),
        left_atrium=Field(atrium, grid),
        arteries=arteries.pushed_out(domes, 4.0).pushed_out(walls, 4.0),
        veins=veins.pushed_out(domes, 4.0).pushed_out(walls, 4.0),
        artery_field=None,
        vein_field=None,
        systemic={
            name: sum((courses[part] for part in parts), no_tubes())
            for name, parts in SYSTEMIC.items()
        },
        airway=airway,
        oesophagus=courses["oesophagus"],
        spine=np.stack([np.zeros_like(t), bend, t * height], axis=1),
        apex_z=float(height * 0.99),
        base_z=float(0.02 * height),
        limits_z=(-20.0, float(height)),
    )
