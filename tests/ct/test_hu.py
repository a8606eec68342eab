import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pe_unified.ct.hu import decode_hu, encode_hu, read_slice_png, write_slice_png


@given(hnp.arrays(np.int16, (5, 7), elements=st.integers(-1024, 32767)))
def test_storing_is_lossless_in_range(hu):
    np.testing.assert_array_equal(decode_hu(encode_hu(hu)), hu)


def test_values_below_the_scale_become_its_bottom():
    assert decode_hu(encode_hu(np.array([-2000, -1024, 60000], dtype=np.int32))).tolist() == [
        -1024,
        -1024,
        32767,
    ]


def test_fractions_are_rounded():
    assert decode_hu(encode_hu(np.array([39.6, -0.4]))).tolist() == [40, 0]


def test_png_round_trip(tmp_path):
    hu = np.random.default_rng(0).integers(-1024, 3072, (40, 30)).astype(np.int16)
    path = tmp_path / "slice.png"
    write_slice_png(path, hu)
    np.testing.assert_array_equal(read_slice_png(path), hu)
    assert list(tmp_path.iterdir()) == [path]


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        read_slice_png(tmp_path / "gone.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"broken\.png"):
        read_slice_png(broken)


def test_eight_bit_picture_is_refused(tmp_path):
    import cv2

    path = tmp_path / "display.png"
    cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="16-bit"):
        read_slice_png(path)
