"""Chronic emboli: remains on the vessel wall of a clot that did not dissolve.

Shapes and attenuation follow the descriptions of Castaner et al., RadioGraphics 2009;29:31-50, and
Wittram et al., AJR 2006;186:S421-S429:

- a crescent: an eccentric clot on one wall, with a hollow surface and thin edges, so that it
  meets the free wall at obtuse angles;
- a web: one to three bands, sheets of 1 to 2 mm that cross the lumen along the vessel;
- a recanalised clot: the lumen is filled except for one to three channels;
- arteries beyond these, which are narrower than their neighbours.
"""

from dataclasses import replace

import numpy as np

from pe_unified.phantom.course import Course, vessel_course
from pe_unified.phantom.grid import Grid, coverage
from pe_unified.phantom.tree import VesselTree

#: Factor for the width of arteries beyond a chronic clot.
_NARROWER = 0.6
#: Minimum thickness of a band in pixels; in thinner ones no voxel would be more than half band.
_BAND_PIXELS = 1.1
#: Radius of the vessel that each band or channel needs, in pixels.
_ROOM_PIXELS = 1.6


def _crescent(rng: np.random.Generator, course: Course) -> np.ndarray:
    """Distance to a clot between the wall and a wide circle that contains the open lumen, mm.

    The circle leaves the clot its thickness in the middle and meets the wall at both edges.
    """
    edge = rng.uniform(np.radians(95), np.radians(145))
    deep = course.full * rng.uniform(0.4, 0.75)
    shift = (1 - (1 - deep) ** 2) / (2 * (1 - deep - np.cos(edge)))
    x, y = (course.across / course.radius[:, None]).T
    return (1 - deep + shift - np.hypot(x + shift, y)) * course.radius


def _channels(rng: np.random.Generator, course: Course, pixel: float) -> np.ndarray:
    """Distance to a clot that fills the vessel except for channels, which widen at its ends, mm."""
    widest = float(np.median(course.radius))
    count = int(np.clip(widest / (_ROOM_PIXELS * pixel), 1, 1 + rng.integers(3)))
    size = rng.uniform(0.32, 0.45) if count == 1 else rng.uniform(0.22, 0.28)
    size = min(max(size, 0.75 * pixel / widest), 0.6)
    far = rng.uniform(0, 0.3) if count == 1 else rng.uniform(0.42, 0.5)
    angle = rng.uniform(0, 2 * np.pi) + rng.uniform(-0.05, 0.05) * course.along
    x, y = (course.across / course.radius[:, None]).T
    open_lumen = np.full(len(x), -np.inf)
    for number in range(count):
        turn = angle + 2 * np.pi * number / count
        middle = np.stack([np.cos(turn), np.sin(turn)]) * far * course.full
        channel = 1 - (1 - size) * course.full - np.hypot(x - middle[0], y - middle[1])
        open_lumen = np.maximum(open_lumen, channel)
    return open_lumen * course.radius


def _bands(rng: np.random.Generator, course: Course, pixel: float) -> np.ndarray:
    """Distance to sheets that cross the lumen and turn slowly along it, mm."""
    thick = max(rng.uniform(1.0, 1.8), _BAND_PIXELS * pixel)
    widest = float(np.median(course.radius))
    count = int(np.clip(widest / (_ROOM_PIXELS * thick), 1, 1 + rng.integers(3)))
    angle = rng.uniform(0, np.pi) + rng.uniform(-0.04, 0.04) * course.along
    x, y = course.across.T
    distance = np.full(len(x), np.inf)
    for number in range(count):
        turn = angle + np.pi * (number + rng.uniform(-0.2, 0.2)) / count
        off = rng.uniform(-0.3, 0.3) * course.radius
        sheet = np.abs(x * np.cos(turn) + y * np.sin(turn) - off) - thick / 2
        distance = np.minimum(distance, sheet)
    return distance


def paint_chronic(
    rng: np.random.Generator,
    tree: VesselTree,
    nodes: np.ndarray,
    shape: str,
    lumen: np.ndarray,
    grid: Grid,
    wide: float,
) -> np.ndarray:
    """Coverage of a chronic clot along nodes: uint8 (slices, rows, cols), 255 inside.

    Args:
        nodes: of the clot; the first is where it begins.
        shape: "crescent", "web" or "recanalised".
        lumen: uint8 (slices, rows, cols) of ``grid``, coverage of the arteries.
        wide: how far a clot may extend, as a factor of the tree's tubes.
    """
    run = tree.points[nodes[1]] - tree.points[nodes[0]]
    toward = np.cross(run, rng.standard_normal(3))
    index = np.argwhere(lumen > 0)
    course = vessel_course(grid.point_of(index), tree, nodes, toward, wide)
    if shape == "crescent":
        distance = _crescent(rng, course)
    elif shape == "recanalised":
        distance = _channels(rng, course, grid.pixel)
    else:
        distance = _bands(rng, course, grid.pixel)
    share = coverage(distance, grid.pixel) * (course.full > 0)
    clot = np.zeros(grid.shape, dtype=np.uint8)
    clot[tuple(index.T)] = np.rint(255 * share)
    return clot


def narrowed_beyond(tree: VesselTree, begins: list[int], taken: np.ndarray) -> VesselTree:
    """The tree with thinner arteries beyond chronic clots.

    Args:
        begins: nodes where these clots begin.
        taken: (n,) bool, nodes of any clot: these, and the path to them, keep their width.
    """
    beyond = np.zeros(len(tree), dtype=bool)
    for begin in begins:
        beyond |= np.isfinite(tree.distance_below(begin))
    for node in np.flatnonzero(taken):
        while node >= 0 and beyond[node]:
            beyond[node] = False
            node = tree.parent[node]
    return replace(tree, radius=np.where(beyond, _NARROWER * tree.radius, tree.radius))
