"""Emboli painted into an artery: what is told of them is what was painted."""

from dataclasses import replace

import numpy as np
import pytest
from straight_vessel import GRID, straight_lumen, straight_tree

from pe_unified.phantom.emboli import paint_emboli
from pe_unified.phantom.study import paint_study, plan_study
from pe_unified.phantom.study_plan import EmbolusPlan


def _painted(*emboli: EmbolusPlan):
    plan = replace(plan_study(4, positive=True), emboli=emboli)
    return paint_emboli(plan, straight_tree(), straight_lumen(), GRID)


def test_attenuation_counts_the_calcium() -> None:
    painted = _painted(EmbolusPlan(4.0, "crescent", 80.0, chronic=True, calcified=True))
    (embolus,) = painted.emboli
    mask = painted.instances == 1
    assert not painted.calcium[~mask].any()
    voxels = np.where(painted.calcium > 0, painted.calcium, painted.hu[1])[mask]
    assert (painted.calcium > 0).any() and painted.hu[1] == 80
    assert embolus.hu == pytest.approx(voxels.mean(), abs=0.1)
    assert 80 < embolus.hu < 125


def test_only_chronic_emboli_narrow_the_arteries() -> None:
    tree = straight_tree()
    acute = _painted(EmbolusPlan(4.0, "occlusive", 50.0, chronic=False))
    assert (acute.tree.radius == tree.radius).all() and not acute.calcium.any()
    chronic = _painted(EmbolusPlan(3.0, "crescent", 80.0, chronic=True))
    held = int(np.flatnonzero(chronic.tree.radius < tree.radius)[0])
    assert (chronic.tree.radius[held:] == 0.6 * tree.radius[held:]).all()
    last = np.flatnonzero((chronic.instances > 0).any((1, 2)))[-1]
    assert 0 < tree.points[held][2] - GRID.z_of(int(last)) < 4


def test_slices_too_coarse_for_its_look_show_an_old_clot_all_the_same() -> None:
    study = paint_study(3226123765, (16, 64, 64), positive=True)
    assert [(e.shape, e.chronic) for e in study.findings] == [("occlusive", True)]
    assert study.labels["chronic_pe"] == 1
