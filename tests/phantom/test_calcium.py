"""Calcium: little of a clot, in its depth, brighter than arteries."""

import numpy as np
import pytest

from pe_unified.phantom.calcium import calcify
from pe_unified.phantom.grid import Grid

GRID = Grid((25, 25, 25), (1.0, 1.0, 1.0), (-12.0, -12.0, -12.0))


def _ball(radius: float) -> np.ndarray:
    x, y, z = GRID.axes()
    return np.sqrt(x * x + y * y + z * z) <= radius


@pytest.mark.parametrize("seed", range(3))
def test_flakes_lie_in_the_depth_of_the_clot(seed: int) -> None:
    ball = _ball(10)
    calcium, hu = calcify(np.random.default_rng(seed), ball, GRID)
    assert 0.02 < calcium.sum() / ball.sum() <= 0.05
    assert not (calcium & ~ball).any()
    # The inner 40 % of a ball reach to 0.74 of its radius, and flakes of 0.05 ml 2.3 mm further.
    assert not calcium[~_ball(9.9)].any()
    assert calcium[_ball(8.0)].sum() >= 0.8 * calcium.sum()
    # The brightest artery that is drawn has 490 HU.
    assert 550 <= hu <= 900


def test_no_more_than_a_third_of_a_millilitre() -> None:
    grid = Grid((25, 25, 25), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    calcium, _ = calcify(np.random.default_rng(0), np.ones(grid.shape, dtype=bool), grid)
    assert 0.1 < calcium.sum() * 0.008 < 0.33


def test_a_clot_of_a_few_voxels_has_none() -> None:
    few = np.zeros(GRID.shape, dtype=bool)
    few[5, 5, 3:22] = True
    assert not calcify(np.random.default_rng(0), few, GRID)[0].any()
