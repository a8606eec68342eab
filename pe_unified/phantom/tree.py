"""Branching vessels as data."""

from dataclasses import dataclass, replace
from functools import cached_property

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

    @cached_property
    def _below(self) -> tuple[list[list[int]], list[float]]:
        """Children of each node, and the length from its parent to each node, mm."""
        children: list[list[int]] = [[] for _ in range(len(self))]
        for node, up in enumerate(self.parent.tolist()):
            if up >= 0:
                children[up].append(node)
        return children, self.lengths().tolist()

    def distance_below(self, start: int) -> np.ndarray:
        """(n,) path length downstream from node ``start``, mm; inf elsewhere."""
        children, length = self._below
        nodes, ways = [start], [0.0]
        for node, way in zip(nodes, ways):
            for child in children[node]:
                nodes.append(child)
                ways.append(way + length[child])
        far = np.full(len(self), np.inf)
        far[nodes] = ways
        return far

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

    def __len__(self) -> int:
        return len(self.radius)

    def add(self, point: np.ndarray, radius: float, parent: int, level: int, side: int) -> int:
        self.points.append(np.asarray(point, dtype=np.float64))
        self.radius.append(float(radius))
        self.parent.append(parent)
        self.level.append(level)
        self.side.append(side)
        return len(self.radius) - 1

    def add_all(
        self,
        points: np.ndarray,
        radius: np.ndarray,
        parent: np.ndarray,
        level: np.ndarray,
        side: int,
    ) -> None:
        """Append nodes (n, 3) of one side; their parents may be among them."""
        self.points.extend(points)
        self.radius.extend(radius.tolist())
        self.parent.extend(parent.tolist())
        self.level.extend(level.tolist())
        self.side.extend([side] * len(points))

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
