"""Trees of tubes with plugs, whose obstruction follows from their cross-sections by hand."""

import numpy as np
import pytest

from pe_unified.inference.obstruction import estimate_obstruction
from pe_unified.inference.right_heart import NotMeasurable

SIZE = (100, 30, 140)  # mm: up, back, left
FORK = (45, 15, 70)


class Tree:
    """A trunk of 10 mm that forks into a right and a left artery, on top of a ventricle."""

    def __init__(self, spacing=(1.0, 1.0, 1.0), right_mm=7.0, left_mm=7.0):
        self.spacing = spacing
        shape = [round(size / each) for size, each in zip(SIZE, spacing, strict=True)]
        ways = [np.arange(n) * each for n, each in zip(shape, spacing, strict=True)]
        self.z, self.y, self.x = np.meshgrid(*ways, indexing="ij")
        self.trunk = self.tube((8, 15, 70), FORK, 10.0)
        self.right = self.tube(FORK, (85, 15, 20), right_mm)
        self.left = self.tube(FORK, (85, 15, 120), left_mm)
        self.arteries = self.trunk | self.right | self.left
        self.ventricle = self.tube((0, 15, 70), (2, 15, 70), 8.0)

    def tube(self, start, end, radius):
        points = np.stack([self.z, self.y, self.x], axis=-1) - np.array(start)
        way = np.subtract(end, start)
        part = np.clip(points @ way / (way @ way), 0, 1)[..., None]
        return np.linalg.norm(points - part * way, axis=-1) <= radius

    def between(self, low, high):
        return (self.z > low) & (self.z < high)

    def percent(self, clots):
        return self.found(clots).percent

    def found(self, clots):
        return estimate_obstruction(self.arteries, clots, self.ventricle, self.spacing)


@pytest.fixture(scope="module")
def tree():
    return Tree()


def test_without_clots_nothing_is_obstructed(tree):
    found = tree.found(np.zeros_like(tree.arteries))
    assert found.percent == 0 and found.clot_reached is None
    assert found.arteries_ml == pytest.approx(tree.arteries.sum() / 1000)


def test_a_plug_cuts_off_what_lies_beyond_it(tree):
    nothing_beyond = tree.right & tree.between(60, 74)
    assert tree.percent(nothing_beyond) == pytest.approx(50, abs=2)
    assert tree.percent(tree.trunk & tree.between(18, 34)) == pytest.approx(100, abs=1)
    both = (tree.right | tree.left) & tree.between(60, 74)
    assert tree.percent(both) == pytest.approx(100, abs=3)


def test_a_clot_counts_as_far_as_it_fills_the_artery(tree):
    half = tree.right & tree.between(60, 80) & (tree.y >= 15)
    assert tree.percent(half) == pytest.approx(25, abs=4)
    # Further on it fills all; the worst on the way counts, not the sum.
    then_full = half | (tree.right & tree.between(66, 84))
    assert tree.percent(then_full) == pytest.approx(50, abs=2)
    twice = half | (tree.right & tree.between(80, 95) & (tree.y >= 15))
    assert tree.percent(twice) == pytest.approx(tree.percent(half), abs=2)


def test_wider_arteries_weigh_by_their_cross_section():
    """Of radii 8 and 5 mm, 64 and 25 parts."""
    tree = Tree(right_mm=8.0, left_mm=5.0)
    plug = tree.right & tree.between(62, 78)
    assert tree.percent(plug) == pytest.approx(100 * 64 / 89, abs=7)


@pytest.mark.parametrize("spacing", [(2.0, 0.8, 0.8), (3.0, 1.0, 1.0), (1.0, 1.3, 0.9)])
def test_the_shape_of_voxels_matters_little(spacing):
    tree = Tree(spacing)
    plug = tree.right & tree.between(56, 80)
    assert tree.percent(plug) == pytest.approx(50, abs=3)


def test_more_clot_never_obstructs_less(tree):
    found = [tree.percent(tree.right & tree.between(60, high)) for high in (62, 65, 70, 90)]
    assert found == sorted(found) and found[-1] > found[0] > 0


def test_a_bump_on_the_wall_is_no_branch(tree):
    """A plug behind it cuts off as much as without it."""
    bumpy = Tree()
    bumpy.arteries |= bumpy.tube((62, 15, 49), (62, 24, 49), 4.0)
    plug = tree.right & tree.between(72, 90)
    assert bumpy.percent(plug) == pytest.approx(tree.percent(plug), abs=1.5)


def test_clots_are_arteries_where_the_mask_leaves_them_out(tree):
    """Dark clots are often no part of a mask of arteries."""
    plug = tree.right & tree.between(60, 74)
    without = Tree()
    without.arteries &= ~plug
    assert without.percent(plug) == pytest.approx(tree.percent(plug), abs=0.1)


def test_clots_elsewhere_do_not_count_and_are_told(tree):
    plug = tree.right & tree.between(60, 74)
    stray = (tree.z > 92) & (tree.x > 60) & (tree.x < 80) & ~tree.arteries
    found = tree.found(plug | stray)
    assert found.percent == pytest.approx(tree.percent(plug))
    assert found.clot_reached == pytest.approx(plug.sum() / (plug.sum() + stray.sum()))
    with pytest.raises(NotMeasurable, match="no lesion touches"):
        tree.found(stray)


def test_what_cannot_be_estimated_says_why(tree):
    nothing = np.zeros_like(tree.arteries)
    with pytest.raises(NotMeasurable, match="arteries is empty"):
        estimate_obstruction(nothing, tree.right, tree.ventricle, tree.spacing)
    with pytest.raises(NotMeasurable, match="where the arteries begin"):
        estimate_obstruction(tree.arteries, tree.right, nothing, tree.spacing)
