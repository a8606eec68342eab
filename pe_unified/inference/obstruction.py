"""How much of the pulmonary arteries is obstructed: an estimate from masks, no reader's score.

The index of Qanadli et al. (2001, https://doi.org/10.2214/ajr.176.6.1761415) counts, for each
clot, the segmental arteries beyond it, 10 to a lung, once where it fills the artery in part and
twice where it fills it, and gives the sum as a share of 40. Masks do not name segmental arteries.
This estimate keeps the idea, that a clot obstructs all that lies beyond it as far as it fills the
artery, and replaces what masks do not show: ends of the mask stand for the segmental arteries,
cross-sections for their number, and the filled share of a cross-section for "in part" and "all".

Limits. Arteries beyond the mask are not known: where it ends at the hila, as TotalSegmentator's
pulmonary_artery does, clots beyond it count only as far as they touch it. Arteries that touch in
the mask are one. Sections need not stand upright in their artery, so that a clot shorter than the
artery is wide reads low. What the model misses, or takes for a clot, is so here, too. How near a
reader's score this comes is not known.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from pe_unified.inference.right_heart import NotMeasurable

#: Thickness of a cross-section along the way of the blood, mm; at least 1.5 of the largest step.
_SECTION_MM = 4.0
#: Arteries begin within this of the voxel that is nearest to the right ventricle, mm.
_BEGIN_MM = 3.0
#: Half of a voxel's neighbours; the other half are their opposites.
_NEIGHBOURS = [
    (i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) > (0, 0, 0)
]


@dataclass(frozen=True)
class Obstruction:
    """An estimate.

    Attributes:
        percent: of the arteries' cross-section that lies beyond clots, 0 to 100.
        clot_reached: share of the clots' volume that lies in the arteries that were followed;
            None without clots.
        arteries_ml: volume of these arteries, clots included.
    """

    percent: float
    clot_reached: float | None
    arteries_ml: float


@dataclass(frozen=True, eq=False)
class _Sections:
    """Cross-sections of a tree by distance from its root, one row each; the root is the first.

    Attributes:
        parent: number of the section before it; -1 at the root.
        area: mm2.
        filled: share that is clot.
        start: distance at which it begins, mm.
        end: distance at which what comes after it ends, mm.
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
    """Share of the arteries that clots cut off, from their cross-sections.

    The arteries, clots included, are followed from where they are nearest to the right
    ventricle, along the shortest ways inside them. What lies 4 mm of way apart is cut into
    pieces that hang together: cross-sections s of area A(s), of which clots fill the share f(s).
    Every section goes on in the sections that follow it; among several, those that end within
    half the width of the artery are its wall, and no branches. Of the flow w, 1 at the root, each
    branch gets its part::

        w(s) = w(parent) A(s) / (sum of A over the sections that follow the parent)
        b(s) = max(b(parent), f(s)),  0 before the root
        percent = 100 * sum of w(s) b(s) over the ends s

    Args:
        arteries, clots, ventricle: bool (slices, rows, cols) of one grid; the last is the right
            ventricle.
        spacing_mm: (slice, row, col), mm.

    Raises:
        NotMeasurable: no arteries, no ventricle, or clots none of which touches the arteries.
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
    """Of every voxel its distance from the root inside the vessel, mm, and the voxel before it
    on that way (negative at the root); and (n, 2) all pairs of neighbours."""
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
    """Cut what is reached into cross-sections ``thick`` mm thick."""
    reached = np.flatnonzero(np.isfinite(way))
    shell = np.full(len(way), -1)
    shell[reached] = way[reached] // thick
    same = edges[(shell[edges[:, 0]] == shell[edges[:, 1]]) & (shell[edges[:, 0]] >= 0)]
    shape = (len(way), len(way))
    _, piece = connected_components(coo_array((np.ones(len(same)), same.T), shape=shape), False)
    # The root is one, though it may be in pieces.
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
    """The share of the flow that does not arrive, 0 to 1."""
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
