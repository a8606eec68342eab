"""Branching vessels: the tree as data, and one that grows until it fills a lobe."""

import math
from dataclasses import dataclass, replace

import numpy as np

from pe_unified.phantom.grid import Field
from pe_unified.phantom.tubes import Tubes

#: Levels of a pulmonary artery.
TRUNK, MAIN, LOBAR, SEGMENTAL, SUBSEGMENTAL = range(5)
LEVEL_NAMES = ("trunk", "main", "lobar", "segmental", "subsegmental")


@dataclass(frozen=True)
class VesselTree:
    """Nodes of a tree of vessels; a parent comes before its children.

    Attributes:
        points: (n, 3) positions (x, y, z), millimetres.
        radius: (n,) millimetres.
        parent: (n,) index of the node upstream, -1 at a root.
        level: (n,) TRUNK to SUBSEGMENTAL.
        side: (n,) -1 the patient's right, +1 left, 0 middle.
    """

    points: np.ndarray
    radius: np.ndarray
    parent: np.ndarray
    level: np.ndarray
    side: np.ndarray

    def __len__(self) -> int:
        return len(self.radius)

    def tubes(self, chosen: np.ndarray | None = None) -> Tubes:
        """One piece of tube from each (chosen) node to its parent."""
        node = np.flatnonzero(self.parent >= 0 if chosen is None else chosen & (self.parent >= 0))
        up = self.parent[node]
        return Tubes(self.points[up], self.points[node], self.radius[up], self.radius[node])

    def lengths(self) -> np.ndarray:
        """(n,) millimetres from each node to its parent, 0 at a root."""
        up = np.where(self.parent < 0, np.arange(len(self)), self.parent)
        return np.linalg.norm(self.points - self.points[up], axis=1)

    def distance_below(self, start: int) -> np.ndarray:
        """(n,) path length downstream from node ``start``, mm; inf elsewhere."""
        length, parent = self.lengths().tolist(), self.parent.tolist()
        far = [math.inf] * len(self)
        far[start] = 0.0
        for node in range(start + 1, len(self)):
            if parent[node] >= 0:
                far[node] = far[parent[node]] + length[node]
        return np.array(far)

    def pushed_out(self, field: Field, margin: float, first: int = 0) -> "VesselTree":
        """The tree with nodes from ``first`` on moved to where ``field`` is at least ``margin``.

        Args:
            field: a distance, mm; nodes move along its gradient.
        """
        points = self.points.copy()
        for _ in range(3):
            short = margin - field.at(points)
            short[:first] = 0
            bad = np.flatnonzero(short > 0)
            if not len(bad):
                break
            steps = np.eye(3) * 2.0
            slope = np.stack(
                [field.at(points[bad] + s) - field.at(points[bad] - s) for s in steps], axis=1
            )
            slope /= np.maximum(np.linalg.norm(slope, axis=1), 1e-6)[:, None]
            points[bad] += slope * np.minimum(short[bad], 12.0)[:, None]
        return replace(self, points=points)


class TreeBuilder:
    """Collects nodes; :meth:`build` makes the arrays."""

    def __init__(self) -> None:
        self.points: list[np.ndarray] = []
        self.radius: list[float] = []
        self.parent: list[int] = []
        self.level: list[int] = []
        self.side: list[int] = []

    def add(self, point: np.ndarray, radius: float, parent: int, level: int, side: int) -> int:
        self.points.append(np.asarray(point, dtype=np.float64))
        self.radius.append(float(radius))
        self.parent.append(parent)
        self.level.append(level)
        self.side.append(side)
        return len(self.radius) - 1

    def add_line(self, line: np.ndarray, parent: int, level: int, side: int) -> int:
        """Append a curve (m, 4) below ``parent``; returns its last node."""
        for row in line if parent < 0 else line[1:]:
            parent = self.add(row[:3], row[3], parent, level, side)
        return parent

    def build(self) -> VesselTree:
        return VesselTree(
            np.array(self.points).reshape(-1, 3),
            np.array(self.radius),
            np.array(self.parent, dtype=np.int64),
            np.array(self.level, dtype=np.int8),
            np.array(self.side, dtype=np.int8),
        )


@dataclass(frozen=True)
class GrowthRule:
    """How a tree fills a region.

    Attributes:
        reach: share of the way to the centre of its region that a branch runs;
            ``last_reach`` of one that divides no further.
        fewest: seed points at which a branch stops dividing.
        exponent: of Murray's law, parent^e = child_1^e + child_2^e.
        smallest: radius, mm, at which branches end.
        step: mm between nodes.
        wobble: sideways bow of a branch, as a share of its length.
    """

    reach: float = 0.45
    last_reach: float = 0.95
    fewest: int = 4
    exponent: float = 3.0
    smallest: float = 0.45
    step: float = 4.0
    wobble: float = 0.07


def _branch(
    rng: np.random.Generator, begin: np.ndarray, end: np.ndarray, rule: GrowthRule
) -> np.ndarray:
    """Positions after ``begin`` on a slightly bowed way to ``end``: (m, 3)."""
    run = end - begin
    (rx, ry, rz), (vx, vy, vz) = run.tolist(), rng.standard_normal(3).tolist()
    bx, by, bz = ry * vz - rz * vy, rz * vx - rx * vz, rx * vy - ry * vx
    length, size = math.hypot(rx, ry, rz), math.hypot(bx, by, bz)
    count = max(int(length / rule.step), 1)
    part = np.arange(1, count + 1)[:, None] / count
    bow = np.array([bx, by, bz]) * (length * rule.wobble / max(size, 1e-9))
    return begin + run * part + bow * np.sin(np.pi * part)


def grow(
    rng: np.random.Generator,
    builder: TreeBuilder,
    root: int,
    seeds: np.ndarray,
    rule: GrowthRule,
    side: int,
) -> None:
    """Let a tree grow from node ``root`` of ``builder`` until it fills a cloud of points.

    Each branch runs part of the way to the centre of its points, which a plane along the
    branch then halves for its two children (Tawhai et al., J Appl Physiol 2004); radii follow
    Murray's law by the number of points supplied. The first branch is lobar, the four
    generations after it are segmental.

    Args:
        seeds: (n, 3) positions, mm, spread evenly over the region to fill.
    """
    work = [(root, seeds, builder.radius[root], 0)]
    while work:
        parent, cloud, radius, generation = work.pop()
        begin = builder.points[parent]
        centre = cloud.mean(0)
        last = len(cloud) < 2 * rule.fewest
        end = begin + (centre - begin) * (rule.last_reach if last else rule.reach)
        level = SEGMENTAL if generation < 5 else SUBSEGMENTAL
        level = LOBAR if generation == 0 else level
        for point in _branch(rng, begin, end, rule):
            parent = builder.add(point, radius, parent, level, side)
        if last:
            continue
        run = centre - begin
        run = run / max(math.hypot(*run.tolist()), 1e-6)
        spread = cloud - centre
        spread = spread - (spread * run).sum(1)[:, None] * run
        widest = np.linalg.eigh(np.einsum("ni,nj->ij", spread, spread))[1][:, 2]
        widest = widest * np.sign(widest[np.argmax(np.abs(widest))])
        order = np.argsort((spread * widest).sum(1), kind="stable")
        cut = int(len(cloud) * rng.uniform(0.32, 0.68))
        for half in (cloud[order[:cut]], cloud[order[cut:]]):
            thinner = radius * (len(half) / len(cloud)) ** (1 / rule.exponent)
            if len(half) >= 2 and thinner >= rule.smallest:
                work.append((parent, half, thinner, generation + 1))
