"""How patches are turned, and which are drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_unified.datasets.volume_store import EMBOLUS
from pe_unified.datasets.volume_transforms import Crops, VolumeGeometry, crops_of, sample_patch

SIDES = (21, 24, 19)
MIDDLE = np.array([10.0, 11.5, 9.0])


def linear():
    z, y, x = np.meshgrid(*map(np.arange, SIDES), indexing="ij")
    return (2.0 * z - 3.0 * y + 5.0 * x).astype(np.float32)


def offsets(size):
    away = np.arange(size) - (size - 1) / 2
    return np.stack(np.meshgrid(away, away, away, indexing="ij"), axis=-1)


@given(st.integers(0, 2**31))
def test_a_patch_shows_what_lies_at_its_place_whatever_the_turn(seed):
    """A linear field tells where each voxel was taken from."""
    rng = np.random.default_rng(seed)
    matrix = VolumeGeometry().draw(rng)
    (found,) = sample_patch([linear()], [0.0], MIDDLE, matrix, 5)
    places = MIDDLE + offsets(5) @ matrix.T
    np.testing.assert_allclose(found, places @ [2.0, -3.0, 5.0], atol=1e-3)


@given(st.integers(0, 2**31))
def test_turns_keep_form_and_magnify_within_limits(seed):
    matrix = VolumeGeometry(scale=(0.8, 1.2)).draw(np.random.default_rng(seed))
    sizes = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(sizes, sizes[0])
    assert 1 / 1.2 <= sizes[0] <= 1 / 0.8


def test_quarter_turns_and_flips_lose_nothing():
    cube = np.random.default_rng(0).normal(size=(6, 6, 6)).astype(np.float32)
    geometry = VolumeGeometry(rotate=0.0, scale=(1.0, 1.0))
    middle = np.full(3, 2.5)
    seen = set()
    for seed in range(60):
        matrix = geometry.draw(np.random.default_rng(seed))
        seen.add(tuple(np.rint(matrix).astype(int).ravel().tolist()))
        (found,) = sample_patch([cube], [0.0], middle, matrix, 6)
        np.testing.assert_allclose(np.sort(found.ravel()), np.sort(cube.ravel()), atol=1e-5)
    assert len(seen) > 30  # of 48


def test_image_and_labels_are_turned_alike():
    image = np.zeros(SIDES, np.float32)
    image[6:15, 7:14, 5:12] = 100
    matrix = VolumeGeometry().draw(np.random.default_rng(1))
    found, label = sample_patch([image, image > 0], [0.0, 0], MIDDLE, matrix, 12)
    np.testing.assert_allclose(found, 100 * label, atol=1e-3)
    assert label.min() == 0 and label.max() == pytest.approx(1)


def test_beyond_the_volume_lies_the_fill():
    image = np.full(SIDES, 7.0, np.float32)
    (found,) = sample_patch([image], [-50.0], np.zeros(3), np.eye(3), 9)
    assert (found[:4, :4, :4] == -50).all() and np.allclose(found[4:, 4:, 4:], 7)


def test_only_what_a_patch_shows_is_read():
    class Watched:
        shape = SIDES

        def __getitem__(self, box):
            self.box = box
            return np.zeros([side.stop - side.start for side in box], np.float32)

    volume = Watched()
    sample_patch([volume], [0.0], np.array([10.0, 10.0, 9.0]), np.eye(3) * 0.5, 9)
    assert volume.box == (slice(8, 13), slice(8, 13), slice(7, 12))


@pytest.fixture(scope="module")
def labels():
    found = np.zeros((40, 33, 20), np.uint8)
    found[3:6, 4:7, 4:7] = EMBOLUS
    found[30:34, 28:33, 15:18] = EMBOLUS
    return found


def test_crops_are_a_grid_and_one_around_each_embolus(labels):
    crops = crops_of(labels, 16)
    grid = [(z, y, x) for z in (0, 12, 24) for y in (0, 8, 17) for x in (0, 4)]
    assert sorted(map(tuple, crops.starts[:18].tolist())) == sorted(grid)
    # Around (4, 5, 5) and (32, 30, 16), moved into the volume.
    assert crops.starts[18:].tolist() == [[0, 0, 0], [24, 17, 4]]
    for start, positive in zip(crops.starts, crops.positive):
        box = tuple(slice(at, at + 16) for at in start)
        assert positive == bool((labels[box] & EMBOLUS).any())


def test_three_quarters_of_the_weight_lie_on_crops_with_an_embolus(labels):
    crops = crops_of(labels, 16)
    positive = {tuple(start) for start in crops.starts[crops.positive].tolist()}
    rng = np.random.default_rng(0)
    draws = [tuple(crops.draw(rng, 1, 0.75)[0].tolist()) for _ in range(4000)]
    share = np.mean([draw in positive for draw in draws])
    assert share == pytest.approx(0.75, abs=0.03)
    assert len(set(draws)) == len({tuple(start) for start in crops.starts.tolist()})


def test_two_draws_of_a_study_are_two_crops():
    starts = np.arange(12).reshape(4, 3)
    crops = Crops(starts, np.array([True, False, False, False]))
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = crops.draw(rng, 2, 0.75)
        assert tuple(one) != tuple(other)
    # Fewer crops than draws.
    assert len(Crops(starts[:1], np.array([True])).draw(rng, 2, 0.75)) == 2


def test_a_study_without_emboli_is_drawn_from_evenly(labels):
    crops = crops_of(np.zeros_like(labels), 16)
    assert not crops.positive.any() and len(crops.starts) == 18
    rng = np.random.default_rng(0)
    drawn = {tuple(crops.draw(rng, 1, 0.75)[0].tolist()) for _ in range(400)}
    assert len(drawn) == 18
