import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_unified.datasets import CTWindows, HUJitter


def test_windows_are_channels_in_order():
    hu = np.array([[-1350, -600, 150, 100, 450, 40, 240, -160]], dtype=np.int16)[..., None]
    seen = CTWindows().transform({"hu": hu})["img"]
    assert seen.shape == (3, 1, 8) and seen.dtype == np.uint8
    lung, pe, mediastinal = seen[:, 0]
    assert lung[0] == 0 and lung[2] == 255 and lung[1] == 128
    assert pe[4] == 255 and pe[3] == 128
    assert mediastinal[6] == 255 and mediastinal[7] == 0 and mediastinal[5] == 128


@given(st.lists(st.integers(-32768, 32767), min_size=2, max_size=50))
def test_no_value_wraps_around(values):
    hu = np.sort(np.array(values, dtype=np.int16))[None, :, None]
    seen = CTWindows().transform({"hu": hu})["img"].astype(int)
    assert (np.diff(seen, axis=-1) >= 0).all()


def test_channels_run_over_slices_then_windows():
    hu = np.zeros((4, 4, 3), dtype=np.int16)
    hu[..., 2] = 3000
    seen = CTWindows(["pe", "lung"]).transform({"hu": hu})["img"]
    assert seen.shape == (6, 4, 4)
    assert (seen[4:] == 255).all() and (seen[0] < 255).all()


def test_unknown_window_is_named():
    with pytest.raises(KeyError, match="known"):
        CTWindows(["abdomen"])


def test_jitter_stays_within_its_bounds():
    hu = np.full((32, 32, 1), 300, dtype=np.int16)
    transform = HUJitter(shift=10, stretch=0.1, noise=0, probability=1.0)
    for seed in range(50):
        moved = transform.transform({"hu": hu, "rng": np.random.default_rng(seed)})["hu"]
        assert moved.min() >= 300 * 0.9 - 11 and moved.max() <= 300 * 1.1 + 11
    assert (hu == 300).all()


def test_jitter_is_seeded():
    hu = np.zeros((8, 8, 1), dtype=np.int16)
    first, again = (
        HUJitter(probability=1).transform({"hu": hu, "rng": np.random.default_rng(3)})["hu"]
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
