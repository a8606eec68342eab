"""Where points lie in a vessel: across it, along it, and how far from its ends."""

from dataclasses import dataclass, replace

import numpy as np

from pe_unified.phantom.tree import VesselTree


@dataclass(frozen=True)
class Course:
    """Where points lie in the vessel that a clot is in.

    Attributes:
        radius: (n,) of the vessel, mm.
        across: (n, 2) offset from its middle in two directions at right angles to it, mm.
        along: (n,) way from the beginning of the clot, mm.
        full: (n,) from 0 at the ends of the clot, and outside of its vessel, to 1 between them.
    """

    radius: np.ndarray
    across: np.ndarray
    along: np.ndarray
    full: np.ndarray


def _ahead(tree: VesselTree, nodes: np.ndarray) -> np.ndarray:
    """(n,) longest way from each node downstream within ``nodes``, mm."""
    ahead = np.zeros(len(tree))
    length = tree.lengths()
    for node in np.sort(nodes[1:])[::-1]:
        up = tree.parent[node]
        ahead[up] = max(ahead[up], ahead[node] + length[node])
    return ahead


def vessel_course(
    points: np.ndarray, tree: VesselTree, nodes: np.ndarray, toward: np.ndarray, wide: float
) -> Course:
    """Each point's place along the piece of vessel that it is deepest in.

    Args:
        points: (n, 3) x, y, z, mm.
        nodes: of the clot, the first of them where it begins.
        toward: (3,) the first direction across the vessel where the clot begins, as far as it is
            at right angles; it turns no more than the vessel does.
        wide: how much wider than the tree's tubes the vessel is taken to be, at most.
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
        # Where branches meet a point is in several, of which one may end.
        beside = part == place
        most[beside] = np.maximum(most, full)[beside]
        run = run / max(np.linalg.norm(run), 1e-6)
        # The vessel upstream of a node may be too narrow to hold clot.
        before = across.get(up, toward)
        first = before - run * (run @ before)
        across[node] = first / max(np.linalg.norm(first), 1e-6)
        nearer = far - radius < outside
        outside[nearer] = (far - radius)[nearer]
        found.radius[nearer], found.along[nearer] = radius[nearer], along[nearer]
        found.full[nearer] = full[nearer]
        axes = np.stack([across[node], np.cross(run, across[node])], axis=1)
        # In the outer bend between two pieces the offset is not across either of them.
        flat = offset[nearer] @ axes
        size = np.maximum(np.linalg.norm(flat, axis=1), 1e-6)
        found.across[nearer] = flat * (far[nearer] / size)[:, None]
    return replace(found, radius=found.radius * (wide / 1.15), full=np.maximum(found.full, most))
