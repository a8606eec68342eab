"""Windows over volumes, and marks in maps."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pe_unified.models.volume_marks import find_marks
from pe_unified.models.volume_windows import Windows

WINDOWS = Windows(size=16, stride=12, ramp=4, at_once=2)


def random(*sides):
    return torch.rand(1, 1, *sides, generator=torch.Generator().manual_seed(0))


def test_a_volume_of_one_window_is_what_the_network_answers():
    volume = random(16, 16, 16)
    torch.testing.assert_close(WINDOWS.over(volume, lambda part: part**2)[0], volume[0, 0] ** 2)


@given(st.tuples(*[st.integers(3, 37)] * 3))
def test_windows_cover_a_volume_of_any_size(sides):
    """What a network answers voxel by voxel does not depend on where windows lie."""
    volume = random(*sides)
    found = WINDOWS.over(volume, lambda part: torch.cat([part, 1 - part], dim=1))
    torch.testing.assert_close(found[0], volume[0, 0])
    torch.testing.assert_close(found[1], 1 - volume[0, 0])


def test_answers_of_two_windows_are_weighted_by_the_way_to_the_border():
    volume = torch.zeros(1, 1, 16, 16, 28)
    numbers = iter([1.0, 2.0])

    def network(part):  # the second window begins at column 12
        return torch.stack([torch.full_like(each, next(numbers)) for each in part])

    found = WINDOWS.over(volume, network)[0]
    line = found[8, 8]
    assert (line[:12] == 1).all() and (line[16:] == 2).all()
    # Columns 12..15: of the first window 3.5 to .5 voxels from its border, of the second .5 to 3.5.
    first, second = np.array([3.5, 2.5, 1.5, 0.5]), np.array([0.5, 1.5, 2.5, 3.5])
    expected = (first + 2 * second) / (first + second)
    np.testing.assert_allclose(line[12:16].numpy(), expected, rtol=1e-5)


def test_published_windows_weigh_fully_from_the_ramp_on():
    weights = Windows().weights()
    assert weights.shape == (128, 128, 128)
    assert weights[64, 64, 0] == 0.5 / 32 and weights[64, 64, 31] == 31.5 / 32
    assert weights[32:96, 32:96, 32:96].min() == 1 and weights.min() > 0


def test_windows_with_gaps_are_refused():
    with pytest.raises(ValueError, match="stride"):
        Windows(size=16, stride=17)


def balls(*parts):
    """A map of 1 mm: (place, value) of single voxels on a faint background."""
    found = np.full((30, 30, 30), 0.2, np.float32)
    for place, value in parts:
        found[place] = value
    return found


def test_a_mark_is_the_best_voxel_of_its_component():
    probability = balls(((5, 5, 5), 0.6), ((6, 6, 6), 0.9), ((7, 7, 7), 0.7), ((25, 5, 5), 0.8))
    marks = find_marks(probability, 1.0)
    np.testing.assert_allclose(marks, [[6, 6, 6, 0.9], [25, 5, 5, 0.8]], rtol=1e-6)


def test_a_mark_near_a_better_one_is_dropped():
    near, apart = (9, 3, 3), (13, 3, 3)
    probability = balls(((3, 3, 3), 0.9), (near, 0.8), (apart, 0.7))
    # The third lies within 10 mm of the second, which is gone.
    assert find_marks(probability, 1.0)[:, 0].tolist() == [3, 13]
    assert find_marks(probability, 2.0)[:, 0].tolist() == [3, 9]  # 12 mm, then 8 mm
    assert find_marks(probability, 1.0, apart_mm=1.0)[:, 0].tolist() == [3, 9, 13]


def test_voxels_below_the_cut_are_no_component():
    probability = balls(((3, 3, 3), 0.5), ((20, 3, 3), 0.49))
    assert find_marks(probability, 1.0)[:, 0].tolist() == [3]
    assert find_marks(probability, 1.0, cut=0.55).shape == (0, 4)


def test_the_best_marks_stay():
    rng = np.random.default_rng(0)
    probability = balls()
    probability[::3, ::3, ::3] = rng.uniform(0.5, 1, (10, 10, 10))
    marks = find_marks(probability, 10.0, most=7)
    best = np.sort(probability.ravel())[::-1][:7]
    np.testing.assert_allclose(marks[:, 3], best)


@given(st.integers(0, 10_000))
def test_marks_keep_their_distance_and_fall_in_score(seed):
    rng = np.random.default_rng(seed)
    probability = rng.random((9, 10, 11)) ** 3
    marks = find_marks(probability, 1.5, apart_mm=6.0)
    assert (np.diff(marks[:, 3]) <= 0).all()
    away = np.linalg.norm(marks[:, None, :3] - marks[None, :, :3], axis=-1) * 1.5
    assert (away[~np.eye(len(marks), dtype=bool)] >= 6.0).all()
    at = tuple(marks[:, :3].astype(int).T)
    np.testing.assert_array_equal(probability[at], marks[:, 3])
