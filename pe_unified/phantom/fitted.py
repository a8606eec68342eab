"""An anatomy around a real patient's lungs and pulmonary vessels.

Lungs, arteries and veins are the patient's. What the label map lacks (chest wall, spine, heart,
aorta, airways) is fitted into the remaining room: the courses of the reference adult are moved to
the patient's landmarks, then sideways to where neither lung nor vessel is in the way.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from pe_unified.phantom.anatomy import Anatomy, HeartFrame
from pe_unified.phantom.distance import planar_distance
from pe_unified.phantom.grid import Field, Grid
from pe_unified.phantom.labelmap import ARTERY, LUNG, VEIN, LabelMap
from pe_unified.phantom.skeleton import tree_from_mask
from pe_unified.phantom.study_plan import PaintingPlan
from pe_unified.phantom.thorax import AIRWAYS, COURSES, SYSTEMIC, heart_axes
from pe_unified.phantom.tubes import Tubes, line_tubes, no_tubes, smooth_line

#: Margin added around the label map, mm.
_ABOVE, _BELOW, _AROUND = 36.0, 24.0, 30.0


@dataclass(frozen=True)
class _Landmarks:
    """Maps positions in the reference adult to this patient."""

    z_from: np.ndarray
    z_to: np.ndarray
    spine: np.ndarray
    front: np.ndarray
    wide: float

    def place(self, points: np.ndarray) -> np.ndarray:
        """Reference positions (n, 3) in the patient, mm."""
        points = np.asarray(points, dtype=np.float64)
        z = np.interp(points[:, 2], self.z_from, self.z_to)
        below, above = points[:, 2] < self.z_from[0], points[:, 2] > self.z_from[-1]
        z = z + np.where(below, points[:, 2] - self.z_from[0], 0)
        z = z + np.where(above, points[:, 2] - self.z_from[-1], 0)
        x = np.interp(z, self.spine[:, 2], self.spine[:, 0]) + points[:, 0] * self.wide
        back = np.interp(z, self.spine[:, 2], self.spine[:, 1])
        front = np.interp(z, self.spine[:, 2], self.front)
        reference_back = np.interp(points[:, 2], [0, 131, 210, 290], [58, 60, 57, 46])
        reference_front = np.interp(points[:, 2], [0, 65, 131, 189, 225], [-87, -90, -83, -65, -42])
        part = (points[:, 1] - reference_front) / (reference_back - reference_front)
        return np.column_stack([x, front + part * (back - front), z])


def _hulls(air: np.ndarray) -> np.ndarray:
    """Convex hull of both lungs in every slice; below the widest one it does not narrow."""
    hull = np.zeros(air.shape, dtype=np.uint8)

    cols = np.flatnonzero(air.any((0, 1)))
    middle = (cols[0] + cols[-1]) / 2

    def fill(k: int, mask: np.ndarray) -> None:
        points = cv2.findNonZero(mask)
        if points is not None:
            # A lung displaced by a large heart does not flatten the ribs: mirror the other lung.
            mirrored = points.copy()
            mirrored[..., 0] = np.rint(middle - 0.96 * (points[..., 0] - middle))
            both = np.concatenate([points, mirrored])
            cv2.fillConvexPoly(hull[k], cv2.convexHull(both), 1)

    for k in range(len(air)):
        fill(k, air[k].astype(np.uint8))
    widest = int(np.argmax(ndimage.uniform_filter1d(hull.sum((1, 2), dtype=float), 5)))
    for k in range(widest - 1, -1, -1):
        fill(k, np.maximum(hull[k], hull[k + 1]))
    top = int(np.flatnonzero(hull.any((1, 2)))[-1])
    shrink = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    for k in range(top + 1, len(hull)):
        hull[k] = cv2.erode(hull[k - 1], shrink) if (k - top) % 2 else hull[k - 1]
        if not hull[k].any():
            hull[k] = hull[k - 1]
    return hull.astype(bool)


def _spine(air: np.ndarray, hull: np.ndarray, grid: Grid, size: float) -> np.ndarray:
    """Centres of the vertebral bodies per slice: (slices, 3), from the gap between the lungs."""
    found = []
    for k in range(grid.shape[0]):
        rows = np.flatnonzero(air[k].any(1))
        if len(rows) < 12:
            continue
        last = int(np.percentile(np.nonzero(air[k])[0], 99))
        band = air[k, max(last - int(60 / grid.spacing[1]), 0) : last - 2]
        gap_middles = []
        for line in band:
            cols = np.flatnonzero(line)
            gaps = np.diff(cols)
            if len(gaps) and gaps.max() * grid.spacing[2] > 18:
                left = int(np.argmax(gaps))
                gap_middles.append((cols[left] + cols[left + 1]) / 2)
        if len(gap_middles) > 4:
            found.append((k, float(np.median(gap_middles)), last))
    table = np.array(found)
    levels = np.arange(grid.shape[0])
    inside = np.clip(levels, table[0, 0], table[-1, 0])
    x = np.polyval(np.polyfit(table[:, 0], table[:, 1], 1), inside)
    y = np.polyval(np.polyfit(table[:, 0], table[:, 2], 2), inside)
    index = np.column_stack([levels, y, x])
    points = grid.point_of(index)
    points[:, 1] -= 29 * size
    return points


def _abdomen(
    air: np.ndarray, hull: np.ndarray, grid: Grid, middle: float, away: float, heart_z: float
) -> np.ndarray:
    """The region below the lungs' lower surface: bool (slices, rows, cols).

    Args:
        middle: x of the spine, mm.
        away: distance from it at which the hila end, mm.
        heart_z: lowest point of the heart, mm; the middle of the diaphragm is below it.
    """
    has = np.asarray(air.any(0))
    low = np.where(has, np.argmax(air, axis=0), 0).astype(np.float32)
    share = cv2.GaussianBlur(has.astype(np.float32), (0, 0), 5)
    filled = cv2.GaussianBlur(low * has, (0, 0), 5) / np.maximum(share, 1e-3)
    surface = np.where(has, low, filled)
    x = grid.axes()[0][0, 0] - middle
    inner = cv2.erode(np.asarray(hull.any(0)).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    caps = []
    for side in (-1, 1):
        region = has & inner & (side * x > away)[None, :]
        caps.append(float(np.percentile(low[region], 96)) if region.any() else 0.0)
    caps[1] = min(caps[1], caps[0] + 2)
    under_heart = (heart_z - grid.origin[2]) / grid.spacing[0]
    knots = np.array([-60.0, -28.0, 62.0, 88.0])
    cap = np.interp(x, knots, [caps[0], *(min(c, under_heart) for c in caps), caps[1]])
    surface = cv2.GaussianBlur(np.minimum(surface, cap[None, :].astype(np.float32)), (0, 0), 2.5)
    below = np.arange(grid.shape[0])[:, None, None] < surface
    return below & hull & ~air


def _nudged(
    line: np.ndarray, clearance: Field, reach: float = 15.0, pull: float = 0.14
) -> np.ndarray:
    """Control points (n, 4) moved in-plane to where there is room for their radius."""
    step = np.arange(-reach, reach + 0.1, 2.5)
    dx, dy = (a.ravel() for a in np.meshgrid(step, step))
    far = np.hypot(dx, dy)
    moves = np.column_stack([dx, dy, np.zeros_like(dx)])[far <= reach]
    far = far[far <= reach]
    out = line.copy()
    for row in out:
        room = clearance.at(row[:3] + moves)
        score = np.minimum(room, row[3] + 1.5) - pull * far
        best = int(np.argmax(score))
        row[:3] += moves[best]
        row[3] = min(row[3], max(float(room[best]) + 1.0, 0.55 * row[3]))
    return out


def _smooth_mask(mask: np.ndarray, grid: Grid, sigma: float, level: float = 0.5) -> Field:
    """A mask as a smooth surface: nearly a distance, mm, within about two voxels of it."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    scale = sigma * np.sqrt(2 * np.pi) * grid.pixel
    return Field(((level - soft) * np.float32(scale)).astype(np.float32), grid)


def _heart(
    rng: np.random.Generator, room: np.ndarray, grid: Grid, atrium: np.ndarray, size: float
) -> HeartFrame:
    """A heart that fills the room left by lungs and diaphragm around the left atrium."""
    index = np.argwhere(room)
    guess = atrium + np.array([12.0, -38.0, -24.0]) * size
    radii = np.array([66.0, 50.0, 45.0])
    if len(index) < 500:
        return HeartFrame(guess, heart_axes(rng), radii * size)
    middle = grid.point_of(index).mean(0)
    volume = len(index) * float(np.prod(grid.spacing))
    scale = (1.02 * volume / (4 / 3 * np.pi * radii.prod())) ** (1 / 3)
    scale = float(np.clip(scale, 0.85 * size, 1.45 * size))
    return HeartFrame(0.8 * middle + 0.2 * guess, heart_axes(rng), radii * scale)


def fitted_anatomy(plan: PaintingPlan, source: LabelMap) -> Anatomy:
    """Build the anatomy of a study on a patient's label map.

    The patient is stretched by a few percent along each axis, depending on the plan's seed.
    """
    rng = plan.rng("fitted")
    spacing = np.asarray(source.spacing) * rng.uniform(0.95, 1.05, 3)
    labels, limits = _padded(source.labels, spacing)
    fine = _centred_grid(labels, spacing)
    lung_mask = _lungs_with_vessels(labels)
    coarse = Grid(
        tuple((n + 1) // 2 for n in fine.shape),  # type: ignore[arg-type]
        tuple(2 * s for s in fine.spacing),  # type: ignore[arg-type]
        fine.origin,
    )
    air = lung_mask[::2, ::2, ::2]
    hull = _hulls(air)
    seen = np.flatnonzero(air.sum((1, 2)) * coarse.pixel**2 > 250)
    base_z, apex_z = coarse.z_of(int(seen[0])), coarse.z_of(int(seen[-1]))
    cols = np.flatnonzero(air.any((0, 1)))
    wide = (cols[-1] - cols[0]) * coarse.spacing[2] / 258
    size = float(np.clip(wide, 0.8, 1.2))
    spine = _spine(air, hull, coarse, size)
    middle = float(np.median(spine[:, 0]))
    atrium_mask = ndimage.gaussian_filter((labels == VEIN).astype(np.float32), 3.0) > 0.62
    atrium_mask = atrium_mask if atrium_mask.any() else labels == VEIN
    atrium = fine.point_of(np.argwhere(atrium_mask).mean(0))
    across = np.argwhere(atrium_mask)[:, 2]
    away = (np.ptp(across) * fine.spacing[2]) / 2 + 14
    abdomen_mask = _abdomen(air, hull, coarse, middle, away, atrium[2] - 46 * size)
    x, y, z = coarse.axes()
    front = _front(hull, coarse)
    room = hull & ~air & ~abdomen_mask
    room &= (z > atrium[2] - 62 * size) & (z < atrium[2] + 8)
    room &= y < np.interp(z, spine[:, 2], spine[:, 1]).astype(np.float32) - 22 * size
    room &= np.abs(x - atrium[0]) < 95 * size
    heart = _heart(rng, room, coarse, atrium, size)
    central = (labels == ARTERY) & (np.abs(fine.axes()[0] - middle) < 36 * size)
    area = central.sum((1, 2)) * fine.pixel**2
    pa_z = fine.z_of(int(np.argmax(ndimage.uniform_filter1d(area, 5))))
    landmarks = _Landmarks(
        np.array([0.0, 116, 152, 262]),
        np.maximum.accumulate(
            np.array([base_z, atrium[2], max(pa_z, atrium[2] + 18), max(apex_z, pa_z + 70)])
        ),
        spine,
        front,
        size,
    )
    blocked = air | (labels[::2, ::2, ::2] == ARTERY) | (labels[::2, ::2, ::2] == VEIN) | ~hull
    clearance = Field(
        ndimage.distance_transform_edt(~blocked, sampling=coarse.spacing).astype(np.float32), coarse
    )
    courses = _fit_courses(rng, landmarks, clearance, size)
    root = heart.to_body(np.array([[0.05 * heart.radii[0], 0.75 * heart.radii[1], 0.0]]))[0]
    artery_mask, vein_mask = labels == ARTERY, labels == VEIN
    lung = Field(ndimage.gaussian_filter(planar_distance(lung_mask, fine), 0.7), fine)
    cavity = ndimage.gaussian_filter(planar_distance(hull, coarse), 1.0) - np.float32(1.5)
    abdomen = ndimage.gaussian_filter(planar_distance(abdomen_mask, coarse), 1.2)
    lung_coarse = lung.values[::2, ::2, ::2]
    limit = np.maximum(np.maximum(cavity, 1.0 - abdomen), 1.0 - lung_coarse)
    airway = no_tubes()
    for name in AIRWAYS:
        airway = airway + courses[name]
    return Anatomy(
        name=source.name,
        lung=lung,
        cavity=Field(cavity, coarse),
        abdomen=Field(abdomen, coarse),
        heart=heart,
        heart_limit=Field((limit + np.float32(1.5)).astype(np.float32), coarse),
        left_atrium=_atrium_field(vein_mask, atrium_mask, fine),
        arteries=tree_from_mask(artery_mask, fine, root, middle),
        veins=tree_from_mask(vein_mask, fine, atrium, middle),
        artery_field=_smooth_mask(artery_mask, fine, 0.75, 0.47),
        vein_field=_smooth_mask(vein_mask, fine, 0.75, 0.47),
        systemic={
            name: sum((courses[part] for part in parts), no_tubes())
            for name, parts in SYSTEMIC.items()
        },
        airway=airway,
        oesophagus=courses["oesophagus"],
        spine=spine,
        apex_z=apex_z,
        base_z=base_z,
        limits_z=(coarse.origin[2] + limits[0], coarse.origin[2] + limits[1]),
    )


def _padded(labels: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """The labelled part with a margin, and the lowest and highest position of its slices, mm."""
    box = ndimage.find_objects((labels > 0).astype(np.uint8))[0]
    part = labels[box]
    pad = [
        (int(_BELOW / spacing[0]), int(_ABOVE / spacing[0])),
        (int(_AROUND / spacing[1]),) * 2,
        (int(_AROUND / spacing[2]),) * 2,
    ]
    low = pad[0][0] * spacing[0]
    high = low + (part.shape[0] - 1) * spacing[0]
    # If the scan ends within the lungs, nothing beyond its end can be shown.
    cut_low = box[0].start == 0 and (part[0] == LUNG).mean() > 0.05
    cut_high = box[0].stop == labels.shape[0] and (part[-1] == LUNG).mean() > 0.02
    limits = (low + 1.5 if cut_low else 0.0, high - 1.5 if cut_high else high + 20.0)
    return np.pad(part, pad), limits


def _centred_grid(labels: np.ndarray, spacing: np.ndarray) -> Grid:
    shape = labels.shape
    x, y = (-(shape[i] - 1) / 2 * float(spacing[i]) for i in (2, 1))
    return Grid(shape, tuple(float(s) for s in spacing), (x, y, 0.0))  # type: ignore[arg-type]


def _lungs_with_vessels(labels: np.ndarray) -> np.ndarray:
    """Lungs with the vessels that run through them."""
    lung = labels == LUNG
    around = ndimage.gaussian_filter(lung.astype(np.float32), 2.2)
    return lung | ((labels > LUNG) & (around > 0.42))


def _front(hull: np.ndarray, grid: Grid) -> np.ndarray:
    """(slices,) y of the front of the cavity, mm."""
    first = np.argmax(hull.any(2), axis=1).astype(float)
    first[~hull.any((1, 2))] = np.nan
    good = np.flatnonzero(np.isfinite(first))
    first = np.interp(np.arange(len(first)), good, first[good])
    return grid.origin[1] + ndimage.gaussian_filter1d(first, 2) * grid.spacing[1]


def _fit_courses(
    rng: np.random.Generator, landmarks: _Landmarks, clearance: Field, size: float
) -> dict[str, Tubes]:
    tubes = {}
    for name, course in COURSES.items():
        table = np.array(course)
        line = np.column_stack([landmarks.place(table[:, :3]), table[:, 3] * size])
        line[:, 3] *= rng.uniform(0.95, 1.12)
        line = _nudged(line, clearance)
        tubes[name] = line_tubes(smooth_line(line[:, :3], line[:, 3]))
    return tubes


def _atrium_field(veins: np.ndarray, core: np.ndarray, grid: Grid) -> Field:
    """Distance to the left atrium: the thick middle of the venous label."""
    box = ndimage.find_objects(core.astype(np.uint8))[0]
    box = tuple(slice(max(s.start - 12, 0), s.stop + 12) for s in box)
    near = ndimage.binary_dilation(core[box], iterations=3) & veins[box]
    inside = ndimage.distance_transform_edt(near, sampling=grid.spacing)
    outside = ndimage.distance_transform_edt(~near, sampling=grid.spacing)
    origin = grid.point_of(np.array([s.start for s in box]))
    part = Grid(near.shape, grid.spacing, tuple(float(v) for v in origin))  # type: ignore[arg-type]
    distance = ndimage.gaussian_filter((outside - inside).astype(np.float32), 0.8)
    return Field(distance, part)
