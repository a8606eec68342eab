"""Pulmonary arteries and veins of a generated chest, and bronchi next to the arteries."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pe_unified.phantom.grid import Field
from pe_unified.phantom.growth import GrowthRule, grow
from pe_unified.phantom.tree import LOBAR, MAIN, TRUNK, TreeBuilder, VesselTree
from pe_unified.phantom.tubes import Tubes, no_tubes, smooth_line

Course = list[tuple[float, float, float, float]]


@dataclass(frozen=True)
class _Stem:
    """A central vessel of the reference adult: (x, y, z, radius) in mm, and what it supplies."""

    course: Course
    parent: str | None
    level: int
    side: int
    lobes: tuple[str, ...] = ()


_ARTERIES: dict[str, _Stem] = {
    "trunk": _Stem(
        [(13, -50, 112, 12.5), (20, -44, 134, 13.5), (18, -27, 150, 13.2), (10, -10, 155, 12)],
        None,
        TRUNK,
        0,
    ),
    "right": _Stem(
        [(10, -10, 155, 11), (-10, -3, 151, 10.5), (-34, 1, 147, 10)], "trunk", MAIN, -1
    ),
    "right_upper": _Stem(
        [(-34, 1, 147, 7), (-46, 3, 158, 6.3), (-55, 6, 169, 5.6)],
        "right",
        LOBAR,
        -1,
        ("right_upper",),
    ),
    "right_interlobar": _Stem(
        [(-34, 1, 147, 9), (-47, 8, 140, 8.8), (-55, 17, 126, 8)], "right", LOBAR, -1
    ),
    "right_middle": _Stem(
        [(-55, 17, 126, 5), (-62, 6, 114, 4.5)], "right_interlobar", LOBAR, -1, ("right_middle",)
    ),
    "right_lower": _Stem(
        [(-55, 17, 126, 7.5), (-59, 28, 108, 6.8)],
        "right_interlobar",
        LOBAR,
        -1,
        ("right_lower",),
    ),
    "left": _Stem([(10, -10, 155, 11), (26, -2, 160, 10.5), (41, 13, 160, 10)], "trunk", MAIN, 1),
    "left_upper": _Stem(
        [(41, 13, 160, 6.5), (50, 5, 169, 6), (57, 4, 178, 5.4)],
        "left",
        LOBAR,
        1,
        ("left_upper",),
    ),
    "left_interlobar": _Stem(
        [(41, 13, 160, 9), (52, 30, 150, 8.5), (58, 41, 132, 8)], "left", LOBAR, 1
    ),
    "lingula": _Stem(
        [(58, 41, 132, 4.8), (67, 28, 124, 4.5), (72, 12, 117, 4.2)],
        "left_interlobar",
        LOBAR,
        1,
        ("lingula",),
    ),
    "left_lower": _Stem(
        [(58, 41, 132, 7.3), (60, 46, 110, 6.6)], "left_interlobar", LOBAR, 1, ("left_lower",)
    ),
}

_VEINS: dict[str, _Stem] = {
    "right_superior": _Stem(
        [(-20, 2, 123, 8), (-42, -6, 130, 6.8), (-60, -8, 140, 6)],
        None,
        LOBAR,
        -1,
        ("right_upper", "right_middle"),
    ),
    "right_inferior": _Stem(
        [(-20, 13, 111, 8), (-44, 25, 99, 6.8), (-60, 36, 90, 6)],
        None,
        LOBAR,
        -1,
        ("right_lower",),
    ),
    "left_superior": _Stem(
        [(26, 3, 126, 7.5), (44, 2, 140, 6.6), (57, -4, 152, 6)],
        None,
        LOBAR,
        1,
        ("left_upper", "lingula"),
    ),
    "left_inferior": _Stem(
        [(26, 15, 112, 7.5), (44, 28, 103, 6.5), (58, 42, 93, 5.8)],
        None,
        LOBAR,
        1,
        ("left_lower",),
    ),
}


def lobe_of(points: np.ndarray, height: float) -> np.ndarray:
    """Names of the lobes that contain the lung points (n, 3), mm in the reference frame."""
    x, y, z = points.T
    oblique = height * (0.43 + 0.0033 * y)
    lower = z < oblique
    right = np.where(
        lower, "right_lower", np.where(z > 0.48 * height, "right_upper", "right_middle")
    )
    left = np.where(lower, "left_lower", np.where(z > 0.47 * height, "left_upper", "lingula"))
    return np.where(x < 0, right, left)


def stem_tubes(rng: np.random.Generator, place: Callable, scale: float, kind: str) -> dict:
    """The central vessels of this person: {name: curve (m, 4)}, connected to their parents.

    Args:
        place: maps reference positions (n, 3) to this person.
        kind: "arteries" or "veins".
    """
    lines: dict[str, np.ndarray] = {}
    for name, stem in (_ARTERIES if kind == "arteries" else _VEINS).items():
        table = np.array(stem.course)
        points = place(table[:, :3])
        points[1:] += rng.normal(0, 1.2, (len(points) - 1, 3))
        if stem.parent is not None:
            points[0] = lines[stem.parent][-1, :3]
        lines[name] = smooth_line(points, table[:, 3] * scale * rng.uniform(0.97, 1.15))
    return lines


def grow_tree(
    rng: np.random.Generator,
    lines: dict[str, np.ndarray],
    seeds: dict[str, np.ndarray],
    kind: str,
    rule: GrowthRule,
) -> VesselTree:
    """Central vessels with trees that fill their lobes.

    Args:
        lines: from :func:`stem_tubes`.
        seeds: {lobe: (n, 3)} points to supply, mm.
    """
    builder = TreeBuilder()
    ends: dict[str, int] = {}
    for name, stem in (_ARTERIES if kind == "arteries" else _VEINS).items():
        parent = ends[stem.parent] if stem.parent is not None else -1
        ends[name] = builder.add_line(lines[name], parent, stem.level, stem.side)
        cloud = [seeds[lobe] for lobe in stem.lobes if len(seeds.get(lobe, ()))]
        if cloud:
            grow(rng, builder, ends[name], np.concatenate(cloud), rule, stem.side)
    return builder.build()


def bronchi_beside(tree: VesselTree, lung: Field, thinnest: float = 1.7) -> tuple[Tubes, Tubes]:
    """Airways next to the arteries from the lobar level on: (lumen, outer wall).

    Args:
        lung: signed distance to the lungs, mm; the airways beyond the hila are drawn elsewhere.
        thinnest: radius, mm, of the smallest artery with a visible bronchus.
    """
    chosen = (tree.parent >= 0) & (tree.level >= LOBAR) & (tree.radius > thinnest)
    chosen &= lung.at(tree.points) < 12
    node = np.flatnonzero(chosen)
    if not len(node):
        return no_tubes(), no_tubes()
    run = tree.points[node] - tree.points[tree.parent[node]]
    run /= np.maximum(np.linalg.norm(run, axis=1), 1e-6)[:, None]
    # Medial and behind, as bronchi are relative to their arteries; perpendicular to the branch.
    toward = np.stack([-tree.side[node] * 0.8, np.full(len(node), 0.5), np.full(len(node), 0.2)], 1)
    toward -= run * (toward * run).sum(1)[:, None]
    toward /= np.maximum(np.linalg.norm(toward, axis=1), 1e-6)[:, None]
    lumen = np.minimum(0.72 * tree.radius[node], 4.0)
    wall = 0.5 + 0.18 * lumen
    shift = np.zeros_like(tree.points)
    shift[node] = toward * (tree.radius[node] + lumen + wall)[:, None]
    size = np.zeros(len(tree))
    size[node] = lumen
    inner = node[chosen[tree.parent[node]]]
    up = tree.parent[inner]
    begin, end = tree.points[up] + shift[up], tree.points[inner] + shift[inner]
    tubes = Tubes(begin, end, size[up], size[inner])
    outer = Tubes(begin, end, size[up] * 1.18 + 0.5, size[inner] * 1.18 + 0.5)
    return tubes, outer
