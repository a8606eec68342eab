"""Obstruction of the pulmonary arteries: an estimate from masks, not a reader's score.

The index of Qanadli et al. (2001, https://doi.org/10.2214/ajr.176.6.1761415) counts, for each clot,
the segmental arteries beyond it, 10 per lung: once if it fills the artery partly and twice if
completely. The sum is given as a share of 40. Masks do not identify segmental arteries. This
estimate keeps the idea that a clot obstructs everything beyond it as far as it fills the artery. It
replaces what masks do not show: ends of the mask represent the segmental arteries, cross-sections
their number, and the filled share of a cross-section "partly" and "completely".

Limits. Arteries beyond the mask are unknown: if it ends at the hila, like TotalSegmentator's
pulmonary_artery, clots beyond it count only as far as they touch it. Arteries that touch in the
mask count as one. Sections need not be perpendicular to their artery, so a clot shorter than the
width of the artery is underestimated. Missed or false clots of the model affect the estimate. The
agreement with a reader's score is unknown.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from pe_unified.inference.right_heart import NotMeasurable

#: Thickness of a cross-section along the vessel, mm; at least 1.5 times the largest spacing.
_SECTION_MM = 4.0
#: Arteries begin within this distance of the voxel nearest to the right ventricle, mm.
_BEGIN_MM = 3.0
#: Half of a voxel's neighbours; the others are their opposites.
_NEIGHBOURS = [
    (i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) > (0, 0, 0)
]


@dataclass(frozen=True)
class Obstruction:
    """An estimate of the obstruction.

    Attributes:
        percent: share of the arteries' cross-section beyond clots, 0 to 100.
        clot_reached: share of the clots' volume inside the followed arteries; None without clots.
        arteries_ml: volume of these arteries, including clots.
    """

    percent: float
    clot_reached: float | None
    arteries_ml: float


@dataclass(frozen=True, eq=False)
class _Sections:
    """Cross-sections of a tree by distance from its root, one row each; the root is the first.

    Attributes:
        parent: index of the section before it; -1 at the root.
        area: mm2.
        filled: share of clot.
        start: distance at which it begins, mm.
        end: distance at which the branch after it ends, mm.
    """

    parent: np.ndarray
    area: np.ndarray
    filled: np.ndarray
    start: np.ndarray
    end: np.ndarray


def estimate_obstruction(
    arteries: np.ndarray,
    clots: np.ndarray,
    ventricle: np.ndarray,
    spacing_mm: tuple[float, float, float],
) -> Obstruction:
    """Share of the arteries obstructed by clots, from their cross-sections.

    The arteries, including clots, are followed from the point nearest to the right ventricle
    along the shortest paths inside them. They are cut every 4 mm of path, and each connected
    piece is a cross-section s with area A(s), of which clots fill the share f(s). Every section
    continues in the sections that follow it; if there are several, those that end within half the
    width of the artery are part of its wall, not branches. The flow w, 1 at the root, is divided
    among the branches::

        w(s) = w(parent) A(s) / (sum of A over the sections that follow the parent)
        b(s) = max(b(parent), f(s)),  0 before the root
        percent = 100 * sum of w(s) b(s) over the ends s

    Args:
        arteries, clots, ventricle: bool (slices, rows, cols) on one grid; the last is the right
            ventricle.
        spacing_mm: (slice, row, col), mm.

    Raises:
        NotMeasurable: no arteries, no ventricle, or no clot touches the arteries.
    """
    if not arteries.any():
        raise NotMeasurable("the mask of the pulmonary arteries is empty")
    if not ventricle.any():
        raise NotMeasurable("no mask of the right ventricle says where the arteries begin")
    vessel = arteries | clots
    voxels = np.argwhere(vessel)
    clot = clots[vessel]
    near, _ = cKDTree(np.argwhere(ventricle) * spacing_mm).query(voxels * spacing_mm)
    near[~arteries[vessel]] = np.inf
    root = np.flatnonzero(near <= near.min() + _BEGIN_MM)
    way, before, edges = _ways(vessel, voxels, root, spacing_mm)
    reached = np.isfinite(way)
    if clot.any() and not clot[reached].any():
        raise NotMeasurable("no lesion touches the arteries")
    voxel_mm3 = float(np.prod(spacing_mm))
    thick = max(_SECTION_MM, 1.5 * max(spacing_mm))
    sections = _sections(way, before, edges, clot, thick, voxel_mm3)
    return Obstruction(
        percent=float(100 * _obstructed(sections)),
        clot_reached=float(clot[reached].sum() / clot.sum()) if clot.any() else None,
        arteries_ml=float(reached.sum()) * voxel_mm3 / 1000,
    )


def _ways(
    vessel: np.ndarray, voxels: np.ndarray, root: np.ndarray, spacing_mm: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paths from the root inside the vessel.

    For every voxel the distance from the root, mm, and the previous voxel on the path (negative at
    the root); and (n, 2) all pairs of neighbours."""
    number = np.full(np.array(vessel.shape) + 2, -1, np.int32)
    number[1:-1, 1:-1, 1:-1][vessel] = np.arange(len(voxels))
    pairs, lengths = [], []
    for offset in _NEIGHBOURS:
        other = number[tuple((voxels + 1 + offset).T)]
        one = np.flatnonzero(other >= 0)
        pairs.append(np.stack([one, other[one]], axis=1))
        lengths.append(np.full(len(one), np.linalg.norm(np.multiply(offset, spacing_mm))))
    edges = np.concatenate(pairs)
    graph = coo_array((np.concatenate(lengths), edges.T), shape=(len(voxels),) * 2).tocsr()
    way, before, _ = dijkstra(
        graph, directed=False, indices=root, return_predecessors=True, min_only=True
    )
    return way, before, edges


def _sections(
    way: np.ndarray,
    before: np.ndarray,
    edges: np.ndarray,
    clot: np.ndarray,
    thick: float,
    voxel_mm3: float,
) -> _Sections:
    """Cut the reached arteries into cross-sections ``thick`` mm thick."""
    reached = np.flatnonzero(np.isfinite(way))
    shell = np.full(len(way), -1)
    shell[reached] = way[reached] // thick
    same = edges[(shell[edges[:, 0]] == shell[edges[:, 1]]) & (shell[edges[:, 0]] >= 0)]
    shape = (len(way), len(way))
    _, piece = connected_components(coo_array((np.ones(len(same)), same.T), shape=shape), False)
    # The root is one section, even if it is in several pieces.
    piece[shell == 0] = piece[shell == 0].max()
    ordered = reached[np.argsort(way[reached], kind="stable")]
    _, first, owner = np.unique(piece[ordered], return_index=True, return_inverse=True)
    section = np.full(len(way), -1)
    section[ordered] = np.argsort(np.argsort(first))[owner]
    foremost = ordered[np.sort(first)]
    parent = np.array([section[before[each]] if before[each] >= 0 else -1 for each in foremost])
    count = np.bincount(section[reached])
    end = np.zeros(len(parent))
    np.maximum.at(end, section[reached], way[reached])
    for own in range(len(parent) - 1, 0, -1):
        end[parent[own]] = max(end[parent[own]], end[own])
    return _Sections(
        parent=parent,
        area=count * voxel_mm3 / thick,
        filled=np.bincount(section[reached], weights=clot[reached]) / count,
        start=way[foremost],
        end=end,
    )


def _obstructed(sections: _Sections) -> float:
    """The share of the flow that is obstructed, 0 to 1."""
    following: dict[int, list[int]] = {}
    for own, upper in enumerate(sections.parent):
        following.setdefault(int(upper), []).append(own)
    lost = 0.0
    waiting = [(0, 1.0, 0.0)]
    while waiting:
        own, flow, blocked = waiting.pop()
        blocked = max(blocked, float(sections.filled[own]))
        after = following.get(own, [])
        if not after:
            lost += flow * blocked
            continue
        radius = np.sqrt(sections.area[own] / np.pi)
        long = [each for each in after if sections.end[each] - sections.start[each] >= radius]
        kept = long or [max(after, key=lambda each: float(sections.end[each]))]
        total = sections.area[kept].sum()
        waiting += [(each, flow * sections.area[each] / total, blocked) for each in kept]
    return lost
