"""Vascular trees: made up, and found in masks."""

import numpy as np
import pytest

from pe_unified.phantom.grid import Grid
from pe_unified.phantom.lung_trees import bronchi_beside
from pe_unified.phantom.skeleton import tree_from_mask
from pe_unified.phantom.study_plan import plan_study
from pe_unified.phantom.thorax import procedural_anatomy
from pe_unified.phantom.tree import LOBAR, MAIN, SEGMENTAL, TRUNK, TreeBuilder
from pe_unified.phantom.tubes import Tubes, paint_tubes


@pytest.fixture(scope="module")
def anatomy():
    return procedural_anatomy(plan_study(8))


def test_distance_below_adds_up_along_the_branches() -> None:
    builder = TreeBuilder()
    root = builder.add(np.zeros(3), 2, -1, TRUNK, 0)
    fork = builder.add(np.array([0, 0, 10.0]), 2, root, MAIN, 0)
    left = builder.add(np.array([5.0, 0, 10]), 1, fork, MAIN, 1)
    right = builder.add(np.array([-4.0, 0, 10]), 1, fork, MAIN, -1)
    tree = builder.build()
    assert tree.distance_below(root)[[root, fork, left, right]].tolist() == [0, 10, 15, 14]
    assert tree.distance_below(left)[[root, right]].tolist() == [np.inf, np.inf]
    assert len(tree.tubes()) == 3


def test_the_made_up_arteries_reach_every_lobe_and_stay_in_the_chest(anatomy) -> None:
    tree = anatomy.arteries
    assert {TRUNK, MAIN, LOBAR, SEGMENTAL} <= set(tree.level.tolist())
    assert (tree.level == MAIN).any()
    for side in (-1, 1):
        points = tree.points[(tree.side == side) & (tree.level == SEGMENTAL)]
        assert np.ptp(points[:, 2]) > 80
        assert (np.sign(points[:, 0]) == side).mean() > 0.95
    outer = tree.level > SEGMENTAL
    assert (anatomy.cavity.at(tree.points[outer]) < 3).mean() > 0.97
    assert (anatomy.abdomen.at(tree.points[outer]) > -1).mean() > 0.97


def test_bronchi_run_beside_arteries_and_not_inside_them(anatomy) -> None:
    lumen, outer = bronchi_beside(anatomy.arteries, anatomy.lung)
    assert len(lumen) > 100
    assert (outer.radius_start > lumen.radius_start).all()
    middle = (lumen.start + lumen.end) / 2
    tree = anatomy.arteries
    near = np.sqrt(((middle[:, None] - tree.points[None]) ** 2).sum(2))
    assert ((near - tree.radius).min(1) > -0.5 * lumen.radius_end).mean() > 0.9


def test_a_painted_fork_is_found_again() -> None:
    grid = Grid((60, 60, 80), (1.0, 1.0, 1.0), (-40.0, -30.0, 0.0))
    start = np.array([[0.0, 0, 4], [0, 0, 30], [0, 0, 30]])
    end = np.array([[0.0, 0, 30], [28, 0, 52], [-28, 0, 52]])
    radius = np.array([6.0, 3.5, 3.5])
    volume = np.zeros(grid.shape, dtype=np.uint8)
    paint_tubes(volume, grid, Tubes(start, end, radius, radius))
    mask = volume >= 128
    mask[2, 2, 2] = True  # a fleck that belongs to nothing
    tree = tree_from_mask(mask, grid, np.array([0.0, 0, 4]), middle_x=0.0)
    children = np.bincount(tree.parent[tree.parent >= 0], minlength=len(tree))
    ends = np.flatnonzero(children == 0)
    tips = tree.points[ends][np.argsort(tree.points[ends, 0])]
    assert np.allclose(tips[0], (-28, 0, 52), atol=4.5)
    assert np.allclose(tips[-1], (28, 0, 52), atol=4.5)
    assert tree.side[ends[np.argmax(tree.points[ends, 0])]] == 1
    lower = (tree.points[:, 2] > 8) & (tree.points[:, 2] < 24)
    assert np.median(tree.radius[lower]) == pytest.approx(6, abs=1)
    assert np.abs(tree.points[lower, :2]).max() < 1.5


def test_nodes_are_pushed_out_of_what_is_in_the_way(anatomy) -> None:
    inside = anatomy.arteries.pushed_out(anatomy.abdomen, 4.0)
    moved = np.abs(inside.points - anatomy.arteries.points).max(1)
    assert (anatomy.abdomen.at(inside.points[moved > 0]) > 1.0).mean() > 0.9
