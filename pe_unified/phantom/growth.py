"""Vessels that grow until they fill a lobe."""

from dataclasses import dataclass

import numpy as np

from pe_unified.phantom.tree import LOBAR, SEGMENTAL, SUBSEGMENTAL, TreeBuilder


@dataclass(frozen=True)
class GrowthRule:
    """How a tree fills a region.

    Attributes:
        reach: length of a branch as a share of the way to the centre of its region;
            ``last_reach`` for one that does not divide further.
        fewest: number of seed points at which a branch stops dividing.
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


@dataclass(frozen=True)
class _Division:
    """The branches of a tree before they have positions, in the order in which they are drawn.

    Attributes:
        parent: (n,) branch upstream, -1 for the first.
        children: (n, 2) branches that supply the two parts of a branch's points, -1 for none.
        size: (n,) number of points that a branch supplies.
        cut: (n,) how many of these are in the first part; 0 if it does not divide.
        radius: (n,) mm.
        generation: (n,) 0 for the first.
        sideways: (n, 3) standard normal, direction in which the branch is bowed.
    """

    parent: np.ndarray
    children: np.ndarray
    size: np.ndarray
    cut: np.ndarray
    radius: np.ndarray
    generation: np.ndarray
    sideways: np.ndarray


def _divide(rng: np.random.Generator, points: int, radius: float, rule: GrowthRule) -> _Division:
    """Draw how a tree that supplies this many points divides; independent of any position."""
    rows: list[tuple[int, int, int, float, int]] = []
    children: list[list[int]] = []
    sideways = []
    work = [(-1, 0, points, float(radius), 0)]
    while work:
        parent, part, size, wide, generation = work.pop()
        sideways.append(rng.standard_normal(3))
        own, cut = len(rows), 0
        if parent >= 0:
            children[parent][part] = own
        if size >= 2 * rule.fewest:
            cut = int(size * rng.uniform(0.32, 0.68))
            for part, count in enumerate((cut, size - cut)):
                thinner = wide * (count / size) ** (1 / rule.exponent)
                if count >= 2 and thinner >= rule.smallest:
                    work.append((own, part, count, thinner, generation + 1))
        rows.append((parent, size, cut, wide, generation))
        children.append([-1, -1])
    parents, sizes, cuts, radii, generations = (np.array(row) for row in zip(*rows))
    return _Division(
        parents, np.array(children), sizes, cuts, radii, generations, np.array(sideways)
    )


def _second_half(
    cloud: np.ndarray, size: np.ndarray, centre: np.ndarray, run: np.ndarray, cut: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Halve the points of each branch by a plane along it.

    Args:
        cloud: (m, 3) points of all branches, grouped by branch.
        size: (n,) number of points of each branch.
        centre, run: (n, 3) centre of a branch's points, and the vector of the branch.
        cut: (n,) number of points on the first side.

    Returns:
        (m,) order of the points within their branches, across the plane; and (m,) bool, which
        of them, in that order, are on the second side.
    """
    owner = np.repeat(np.arange(len(size)), size)
    starts = np.cumsum(size) - size
    away = run / np.maximum(np.linalg.norm(run, axis=1), 1e-6)[:, None]
    spread, away = cloud - centre[owner], away[owner]
    spread -= np.einsum("ni,ni->n", spread, away)[:, None] * away
    products = (spread[:, :, None] * spread[:, None, :]).reshape(-1, 9)
    widest = np.linalg.eigh(np.add.reduceat(products, starts).reshape(-1, 3, 3))[1][:, :, 2]
    largest = np.take_along_axis(widest, np.abs(widest).argmax(1)[:, None], 1)
    place = np.einsum("ni,ni->n", spread, (widest * np.sign(largest))[owner])
    order = np.lexsort((place, owner))
    return order, np.arange(len(cloud)) - starts[owner] >= cut[owner]


def _bowed(
    begin: np.ndarray, run: np.ndarray, sideways: np.ndarray, rule: GrowthRule
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of slightly bowed branches without their starts: (m, 3), and the number of each."""
    bow = np.cross(run, sideways)
    length, size = np.linalg.norm(run, axis=1), np.linalg.norm(bow, axis=1)
    count = np.maximum((length / rule.step).astype(int), 1)
    owner = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(owner)) - (np.cumsum(count) - count)[owner] + 1
    part = (number / count[owner])[:, None]
    bow *= (length * rule.wobble / np.maximum(size, 1e-9))[:, None]
    return begin[owner] + run[owner] * part + bow[owner] * np.sin(np.pi * part), count


def grow(
    rng: np.random.Generator,
    builder: TreeBuilder,
    root: int,
    seeds: np.ndarray,
    rule: GrowthRule,
    side: int,
) -> None:
    """Let a tree grow from node ``root`` of ``builder`` until it fills a cloud of points.

    Each branch runs part of the way to the centre of its points; a plane along the branch then
    halves these for its two children (Tawhai et al., J Appl Physiol 2004). Radii follow Murray's
    law by the number of points supplied. The first branch is lobar, the next four generations are
    segmental. The branches of a generation are placed together.

    Args:
        seeds: (n, 3) positions, mm, spread evenly over the region to fill.
    """
    tree = _divide(rng, len(seeds), builder.radius[root], rule)
    counts = np.zeros(len(tree.parent), dtype=int)
    tips = np.empty((len(tree.parent), 3))
    lines, owners = [], []
    own, cloud, begin = np.zeros(1, dtype=int), seeds, builder.points[root][None]
    while len(own):
        size = tree.size[own]
        centre = np.add.reduceat(cloud, np.cumsum(size) - size) / size[:, None]
        divides = tree.cut[own] > 0
        run = centre - begin
        reach = np.where(divides, rule.reach, rule.last_reach)[:, None]
        points, counts[own] = _bowed(begin, run * reach, tree.sideways[own], rule)
        tips[own] = points[np.cumsum(counts[own]) - 1]
        lines.append(points)
        owners.append(np.repeat(own, counts[own]))
        cloud = cloud[np.repeat(divides, size)]
        own, size, centre, run = own[divides], size[divides], centre[divides], run[divides]
        if not len(own):
            break
        order, second = _second_half(cloud, size, centre, run, tree.cut[own])
        child = tree.children[np.repeat(own, size), second.astype(int)]
        cloud = cloud[order[child >= 0]]
        own = tree.children[own].ravel()
        own = own[own >= 0]
        begin = tips[tree.parent[own]]
    branch = np.concatenate(owners)
    order = np.argsort(branch, kind="stable")
    branch = branch[order]
    parent = len(builder) + np.arange(len(branch)) - 1
    first = np.cumsum(counts) - counts
    up = tree.parent
    parent[first] = np.where(up < 0, root, len(builder) + (first + counts - 1)[up])
    level = np.where(tree.generation < 5, SEGMENTAL, SUBSEGMENTAL)
    level[tree.generation == 0] = LOBAR
    builder.add_all(np.concatenate(lines)[order], tree.radius[branch], parent, level[branch], side)
