import numpy as np
import pydicom
import pytest
from dicom_files import slice_dataset, write_jpeg
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from pe_unified.ct.codestream import picture_size, require_size
from pe_unified.ct.dicom import read_hu
from pe_unified.errors import DataError


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 3000, (40, 56)).astype(np.uint16)


def compressed(picture, syntax, path):
    """A compressed slice; lossless JPEG by GDCM, the others by pydicom's plugins."""
    if syntax == "JPEG":
        return pydicom.dcmread(write_jpeg(path, picture))
    dataset = slice_dataset(picture)
    dataset.compress(syntax)
    return dataset


@pytest.mark.parametrize("syntax", ["JPEG", JPEGLSLossless, JPEG2000Lossless])
def test_the_size_that_a_picture_says(picture, syntax, tmp_path):
    dataset = compressed(picture, syntax, tmp_path / "a.dcm")
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    assert picture_size(stream) == (40, 56)
    for end in range(len(stream)):  # cut anywhere, or not there yet
        assert picture_size(stream[:end]) in (None, (40, 56)) or end < 30


@pytest.mark.parametrize("syntax", ["JPEG", JPEGLSLossless, JPEG2000Lossless])
def test_a_picture_of_another_size_is_not_decoded(picture, syntax, tmp_path):
    dataset = compressed(picture, syntax, tmp_path / "a.dcm")
    require_size(dataset)
    dataset.Rows = 20
    dataset.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    with pytest.raises(DataError, match="a picture of 40 x 56 in a slice of 20 x 56"):
        read_hu(tmp_path / "b.dcm")


def test_more_than_a_slice_can_need(picture, tmp_path):
    """Run lengths say no size; two bytes may stand for 128 pixels."""
    dataset = compressed(picture, RLELossless, tmp_path / "a.dcm")
    require_size(dataset)
    dataset.PixelData = dataset.PixelData + bytes(1 << 20)
    with pytest.raises(ValueError, match=r"compressed bytes for 4480 of pixels"):
        require_size(dataset)


def test_run_lengths_may_look_like_another_picture(tmp_path):
    """Muscle in pairs: the low bytes of 79, 79, 81 and 81 HU begin a JPEG 2000 stream."""
    stored = np.full((64, 64), 0x40A, np.uint16)
    stored[5, 10:14] = 0x44F, 0x44F, 0x451, 0x451
    dataset = compressed(stored, RLELossless, tmp_path / "a.dcm")
    assert b"\xff\x4f\xff\x51" in dataset.PixelData
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_hu(tmp_path / "a.dcm"), stored.astype(int) - 1024)


def test_a_picture_in_a_file_of_its_own(picture, tmp_path):
    dataset = compressed(picture, JPEG2000Lossless, tmp_path / "a.dcm")
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    boxed = b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x14ftypjp2 \0\0\0\0jp2 " + stream
    assert picture_size(boxed) == (40, 56)
    assert picture_size(b"\xff\xd8" + b"\xff" * (4 << 20)) is None  # filling alone, at once


@pytest.mark.parametrize("stream", [b"", b"\xff\xd8", b"\xff\xd8\xff\xff\xff", b"GIF89a" * 9])
def test_what_is_no_picture_says_nothing(stream):
    assert picture_size(stream) is None
