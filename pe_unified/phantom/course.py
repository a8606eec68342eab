"""Positions of points in a vessel: across it, along it, and distance from its ends."""

from dataclasses import dataclass, replace

import numpy as np

from pe_unified.phantom.tree import VesselTree


@dataclass(frozen=True)
class Course:
    """Positions of points in the vessel of a clot.

    Attributes:
        radius: (n,) of the vessel, mm.
        across: (n, 2) offset from its centre line in two directions perpendicular to it, mm.
        along: (n,) path length from the beginning of the clot, mm.
        full: (n,) 1 in the middle part of the clot, 0 at its ends and outside its vessel.
    """

    radius: np.ndarray
    across: np.ndarray
    along: np.ndarray
    full: np.ndarray


def _ahead(tree: VesselTree, nodes: np.ndarray) -> np.ndarray:
    """(n,) longest path from each node downstream within ``nodes``, mm."""
    ahead = np.zeros(len(tree))
    length = tree.lengths()
    for node in np.sort(nodes[1:])[::-1]:
        up = tree.parent[node]
        ahead[up] = max(ahead[up], ahead[node] + length[node])
    return ahead


def vessel_course(
    points: np.ndarray, tree: VesselTree, nodes: np.ndarray, toward: np.ndarray, wide: float
) -> Course:
    """The position of each point relative to the piece of vessel in which it is deepest.

    Args:
        points: (n, 3) x, y, z, mm.
        nodes: of the clot; the first is where it begins.
        toward: (3,) first direction across the vessel at the beginning of the clot; made
            perpendicular to the vessel, it turns no more than the vessel does.
        wide: maximum width of the vessel, as a factor of the tree's tubes.
    """
    begin, ahead, length = tree.distance_below(int(nodes[0])), _ahead(tree, nodes), tree.lengths()
    count = len(points)
    outside, most = np.full(count, np.inf), np.zeros(count)
    across = {int(nodes[0]): toward}
    found = Course(np.ones(count), np.zeros((count, 2)), np.zeros(count), np.zeros(count))
    for node, up in zip(nodes[1:].tolist(), tree.parent[nodes[1:]].tolist()):
        run = tree.points[node] - tree.points[up]
        away = points - tree.points[up]
        place = away @ run / max(run @ run, 1e-6)
        part = np.clip(place, 0, 1)
        offset = away - part[:, None] * run
        far = np.linalg.norm(offset, axis=1)
        radius = tree.radius[up] + part * (tree.radius[node] - tree.radius[up])
        along = begin[up] + part * length[node]
        rest = ahead[node] + (1 - part) * length[node]
        full = np.minimum(along, rest) / np.clip(0.3 * (along + rest), 2.0, 10.0)
        full = np.where(far <= wide * radius + 0.4, np.minimum(full, 1), 0)
        # Where branches meet, a point is in several of them, and one of these may end there.
        beside = part == place
        most[beside] = np.maximum(most, full)[beside]
        run = run / max(np.linalg.norm(run), 1e-6)
        # The vessel upstream of a node may be too narrow for a clot.
        before = across.get(up, toward)
        first = before - run * (run @ before)
        across[node] = first / max(np.linalg.norm(first), 1e-6)
        nearer = far - radius < outside
        outside[nearer] = (far - radius)[nearer]
        found.radius[nearer], found.along[nearer] = radius[nearer], along[nearer]
        found.full[nearer] = full[nearer]
        axes = np.stack([across[node], np.cross(run, across[node])], axis=1)
        # In the outer bend between two pieces the offset is perpendicular to neither of them.
        flat = offset[nearer] @ axes
        size = np.maximum(np.linalg.norm(flat, axis=1), 1e-6)
        found.across[nearer] = flat * (far[nearer] / size)[:, None]
    return replace(found, radius=found.radius * (wide / 1.15), full=np.maximum(found.full, most))
