"""Trees that grow."""

import numpy as np

from pe_unified.phantom.growth import GrowthRule, grow
from pe_unified.phantom.tree import LOBAR, TreeBuilder


def test_a_grown_tree_fills_its_cloud() -> None:
    rng = np.random.default_rng(0)
    cloud = rng.uniform(-30, 30, (800, 3)) + np.array([0, 0, 60])
    builder = TreeBuilder()
    root = builder.add(np.zeros(3), 6.0, -1, LOBAR, 1)
    grow(rng, builder, root, cloud, GrowthRule(), 1)
    tree = builder.build()
    assert (tree.parent < np.arange(len(tree))).all()
    nearest = np.sqrt(((cloud[:, None] - tree.points[None]) ** 2).sum(2)).min(1)
    assert np.percentile(nearest, 90) < 8
    below = tree.parent >= 0
    assert (tree.radius[below] <= tree.radius[tree.parent[below]] + 1e-9).all()
    assert (tree.side == 1).all()


def test_murray_holds_at_every_fork() -> None:
    """The cubes of the radii add up, but for children too thin to be kept."""
    rng = np.random.default_rng(1)
    builder = TreeBuilder()
    root = builder.add(np.zeros(3), 6.0, -1, LOBAR, 1)
    rule = GrowthRule(smallest=0.0)
    grow(rng, builder, root, rng.uniform(-30, 30, (300, 3)) + np.array([0, 0, 60]), rule, 1)
    tree = builder.build()
    children = [np.flatnonzero(tree.parent == node) for node in range(len(tree))]
    forks = [node for node, below in enumerate(children) if len(below) == 2]
    assert len(forks) > 20
    for node in forks:
        cubes = (tree.radius[children[node]] ** rule.exponent).sum()
        np.testing.assert_allclose(cubes, tree.radius[node] ** rule.exponent)


def test_a_tree_that_cannot_divide_is_one_branch() -> None:
    builder = TreeBuilder()
    root = builder.add(np.zeros(3), 3.0, -1, LOBAR, -1)
    seeds = np.array([[0.0, 0, 38], [0, 2, 40], [0, -2, 42]])
    grow(np.random.default_rng(2), builder, root, seeds, GrowthRule(), -1)
    tree = builder.build()
    assert (tree.parent == np.arange(len(tree)) - 1).all()
    np.testing.assert_allclose(tree.points[-1], [0, 0, 0.95 * 40], atol=1e-9)
    assert (tree.level == LOBAR).all()
