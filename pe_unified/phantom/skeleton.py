"""Extracts centre lines from the mask of a vascular tree."""

import numpy as np
from scipy import ndimage
from scipy.sparse.csgraph import dijkstra
from skimage.graph import pixel_graph
from skimage.morphology import skeletonize

from pe_unified.phantom.grid import Grid
from pe_unified.phantom.tree import (
    LOBAR,
    MAIN,
    SEGMENTAL,
    SUBSEGMENTAL,
    TRUNK,
    VesselTree,
)

#: Minimum share of all endings that a vessel of each level supplies.
_SUPPLY = ((TRUNK, 0.72), (MAIN, 0.26), (LOBAR, 0.07), (SEGMENTAL, 0.012))


def _spurs(parent: np.ndarray, length: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Nodes of side twigs that do not leave the vessel they branch from: (n,) bool."""
    children = np.bincount(parent[parent >= 0], minlength=len(parent))
    drop = np.zeros(len(parent), dtype=bool)
    for leaf in np.flatnonzero(children == 0):
        path, run, node = [], 0.0, int(leaf)
        while node >= 0 and children[node] <= 1:
            path.append(node)
            run += length[node]
            node = int(parent[node])
        if node >= 0 and run < 1.25 * radius[node]:
            drop[path] = True
    return drop


def _levels(parent: np.ndarray, x: np.ndarray, middle_x: float) -> tuple[np.ndarray, np.ndarray]:
    """Level and side of each node, from how much of the tree it supplies, and its position."""
    count = len(parent)
    ends = (np.bincount(parent[parent >= 0], minlength=count) == 0).astype(float)
    sideways = ends * (x - middle_x)
    for node in range(count - 1, 0, -1):
        up = parent[node]
        if up >= 0:
            ends[up] += ends[node]
            sideways[up] += sideways[node]
    share = ends / max(ends[0], 1)
    level = np.full(count, SUBSEGMENTAL, dtype=np.int8)
    for name, least in reversed(_SUPPLY):
        level[share >= least] = name
    side = np.sign(sideways).astype(np.int8)
    side[level == TRUNK] = 0
    return level, side


def _entrance(points: np.ndarray, radius: np.ndarray, root: np.ndarray) -> int:
    """The thickest place near ``root``; of two with similar thickness, the nearer one."""
    far = np.linalg.norm(points - root, axis=1)
    return int(np.argmin(far - 12 * np.minimum(radius, 12)))


def tree_from_mask(mask: np.ndarray, grid: Grid, root: np.ndarray, middle_x: float) -> VesselTree:
    """The centre lines of a vascular tree.

    Args:
        mask: bool (slices, rows, cols) of ``grid``; parts not connected to the largest one are
            left out.
        root: (x, y, z) near which the blood enters (or leaves), mm.
        middle_x: between the lungs, mm.
    """
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count > 1:
        mask = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
    part = mask[box]
    depth = ndimage.distance_transform_edt(part, sampling=grid.spacing)
    skeleton = skeletonize(part)
    index = np.argwhere(skeleton)
    radius = depth[tuple(index.T)]
    points = grid.point_of(index + [s.start for s in box])
    graph = pixel_graph(skeleton, connectivity=3)[0].tocoo()
    first, second = graph.row, graph.col
    run = np.linalg.norm(points[first] - points[second], axis=1)
    # Thick paths are preferred, so that the tree follows the blood flow.
    graph.data = run / np.minimum(radius[first], radius[second])
    start = _entrance(points, radius, root)
    far, before = dijkstra(graph, indices=start, return_predecessors=True)
    order = np.argsort(far, kind="stable")
    order = order[np.isfinite(far[order])]
    place = np.full(len(index), -1)
    place[order] = np.arange(len(order))
    before = before[order]
    parent = np.where(before >= 0, place[np.maximum(before, 0)], -1)
    points, radius = points[order], radius[order]
    up = np.maximum(parent, 0)
    length = np.linalg.norm(points - points[up], axis=1)
    keep = ~_spurs(parent, length, radius)
    place = np.cumsum(keep) - 1
    parent = np.where(parent[keep] >= 0, place[up[keep]], -1)
    points, radius = _smoothed(points[keep], radius[keep], parent)
    level, side = _levels(parent, points[:, 0], middle_x)
    # Thick ends that supply nothing are not branches but bulges of their parent vessel.
    wide = (radius > 0.6 * np.median(radius[level <= MAIN])) & (level >= SEGMENTAL)
    for node in np.flatnonzero(wide & (parent >= 0)):
        level[node], side[node] = level[parent[node]], side[parent[node]]
    return VesselTree(points, radius, parent.astype(np.int64), level, side)


def _smoothed(
    points: np.ndarray, radius: np.ndarray, parent: np.ndarray, rounds: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth the staircase of voxel positions along the branches."""
    below = np.flatnonzero(parent >= 0)
    up = parent[below]
    count = np.bincount(up, minlength=len(parent))
    values = np.column_stack([points, radius])
    inner = (count > 0) & (parent >= 0)
    for _ in range(rounds):
        child = np.zeros_like(values)
        np.add.at(child, up, values[below])
        child /= np.maximum(count, 1)[:, None]
        mean = 0.5 * values + 0.25 * values[np.maximum(parent, 0)] + 0.25 * child
        values = np.where(inner[:, None], mean, values)
    return values[:, :3], values[:, 3]
