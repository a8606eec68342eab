"""Chronic emboli have the looks that radiologists describe, measured across a straight artery."""

import numpy as np
import pytest
from scipy import ndimage
from straight_vessel import GRID, MIDDLE, RADIUS, in_plane, straight_lumen, straight_tree

from pe_unified.phantom.chronic import narrowed_beyond, paint_chronic
from pe_unified.phantom.tree import LOBAR, VesselTree

LUMEN = straight_lumen()


def _clot(shape: str, seed: int) -> np.ndarray:
    """Bool (slices, rows, cols)."""
    rng = np.random.default_rng(seed)
    clot = paint_chronic(rng, straight_tree(), np.arange(31), shape, LUMEN, GRID, 1.15)
    assert not clot[LUMEN == 0].any()
    return (clot >= 128) & (LUMEN >= 128)


@pytest.mark.parametrize("seed", range(4))
def test_a_crescent_lies_on_one_wall_with_thin_edges(seed: int) -> None:
    clot = _clot("crescent", seed)[MIDDLE]
    far, angle = in_plane()
    assert not clot[far < 0.2 * RADIUS].any()
    middle = np.arctan2(np.sin(angle[clot]).mean(), np.cos(angle[clot]).mean())
    off = np.abs(np.angle(np.exp(1j * (angle - middle))))
    wall = (far > 0.9 * RADIUS) & (far < 0.98 * RADIUS)
    # It covers from half of the wall to four fifths of it, in one piece, most in the middle.
    assert clot[wall & (off < np.radians(80))].all()
    assert not clot[wall & (off > np.radians(150))].any()
    assert 0.5 < clot[wall].mean() < 0.82
    thick = RADIUS - far[clot & (off < 0.1)].min()
    assert 0.36 * RADIUS < thick < 0.79 * RADIUS
    edge = off[wall & clot].max()
    near_edge = clot & (np.abs(off - edge + 0.3) < 0.05)
    assert RADIUS - far[near_edge].min() < 0.6 * thick


@pytest.mark.parametrize("seed", range(4))
def test_a_web_divides_the_lumen_with_thin_bands(seed: int) -> None:
    clot = _clot("web", seed)[MIDDLE]
    inside = LUMEN[MIDDLE] >= 128
    assert ndimage.label(inside & ~clot)[1] >= 2
    assert 0.04 < clot.sum() / inside.sum() < 0.5
    # Bands are 1 to 1.8 mm thick, two to four pixels.
    assert not ndimage.binary_erosion(clot, np.ones((3, 3)), iterations=3).any()
    assert in_plane()[0][clot].max() > 0.93 * RADIUS


@pytest.mark.parametrize("seed", range(4))
def test_a_recanalised_clot_is_open_in_channels(seed: int) -> None:
    clot = _clot("recanalised", seed)[MIDDLE]
    far, _ = in_plane()
    assert clot[(far > 0.8 * RADIUS) & (far < 0.97 * RADIUS)].all()
    channels, count = ndimage.label(~clot & (far < 0.97 * RADIUS))
    assert 1 <= count <= 3
    for number in range(1, count + 1):
        wide = np.sqrt(np.count_nonzero(channels == number) * 0.25 / np.pi)
        low, high = (0.32, 0.45) if count == 1 else (0.22, 0.28)
        assert low - 0.03 < wide / RADIUS < high + 0.03


@pytest.mark.parametrize("shape", ["crescent", "recanalised"])
def test_a_clot_tapers_to_its_ends(shape: str) -> None:
    area = _clot(shape, 5).sum((1, 2))
    assert area[7] < 0.5 * area[MIDDLE]
    assert area[63] < 0.5 * area[MIDDLE]


def test_arteries_beyond_a_chronic_clot_are_narrower() -> None:
    """0-1-2-3-4, and 5 and 6 below 2; the clot is in 1 and 2, another one in 4."""
    tree = VesselTree(
        np.arange(21, dtype=float).reshape(7, 3),
        np.arange(10.0, 3, -1),
        np.array([-1, 0, 1, 2, 3, 2, 5]),
        np.full(7, LOBAR, dtype=np.int8),
        np.ones(7, dtype=np.int8),
    )
    taken = np.array([0, 1, 1, 0, 0, 0, 0], dtype=bool)
    one = narrowed_beyond(tree, [1], taken)
    np.testing.assert_allclose(one.radius, [10, 9, 8, 4.2, 3.6, 3.0, 2.4])
    taken[4] = True
    both = narrowed_beyond(tree, [1], taken)
    np.testing.assert_allclose(both.radius, [10, 9, 8, 7, 6, 3.0, 2.4])
