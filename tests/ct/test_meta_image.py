"""MetaImage volumes, attached and detached, packed and plain, in any orientation."""

import re
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from known_volume import ORIGIN, SPACING, assert_is_truth, read

from pe_unified.ct.archive import ArchiveLimits
from pe_unified.errors import DataError


def image_of(hu):
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((SPACING[1], SPACING[0], SPACING[2]))
    image.SetOrigin(ORIGIN)
    return image


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["ct.mha", "ct.mhd", "CT.MHA"])
def test_attached_and_detached(tmp_path, truth, affine, name, packed):
    sitk.WriteImage(image_of(truth), str(tmp_path / name.lower()), packed)
    (tmp_path / name.lower()).rename(tmp_path / name)
    assert_is_truth(tmp_path / name, truth, affine)
    assert read(tmp_path / name)[0].placed


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAI", "SPL", "ASR"])
def test_any_orientation_is_turned(tmp_path, truth, affine, orientation):
    turned = sitk.DICOMOrient(image_of(truth), orientation)
    sitk.WriteImage(turned, str(tmp_path / "ct.mha"), True)
    assert_is_truth(tmp_path / "ct.mha", truth, affine)
    assert read(tmp_path / "ct.mha")[0].grid.shape == turned.GetSize()


def test_it_lies_where_itk_says(tmp_path, truth):
    """Turned by 20 degrees about the long axis of the body."""
    image = image_of(truth)
    cos, sin = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
    image.SetDirection((cos, -sin, 0, sin, cos, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / "ct.mha"))
    study, hu = read(tmp_path / "ct.mha")
    np.testing.assert_array_equal(hu, truth)
    assert study.position_mm(2, 4, 3) == pytest.approx(
        image.TransformIndexToPhysicalPoint((3, 4, 2))
    )


@pytest.mark.parametrize("kind", [sitk.sitkUInt16, sitk.sitkInt32, sitk.sitkFloat32])
def test_types_of_numbers(tmp_path, truth, affine, kind):
    stored = truth.astype(np.int32) + (1024 if kind == sitk.sitkUInt16 else 0)
    sitk.WriteImage(sitk.Cast(image_of(stored), kind), str(tmp_path / "ct.mha"), True)
    assert_is_truth(tmp_path / "ct.mha", truth, affine)


def written(path, truth):
    sitk.WriteImage(image_of(truth), str(path))
    return path.read_bytes()


def test_high_bytes_first_and_a_header_of_unknown_length(tmp_path, truth, affine):
    path = tmp_path / "ct.mha"
    header = written(path, truth)[: -2 * truth.size]
    big = header.replace(b"BinaryDataByteOrderMSB = False", b"BinaryDataByteOrderMSB = True")
    path.write_bytes(big + truth.astype(">i2").tobytes())
    assert_is_truth(path, truth, affine)
    last = header.replace(b"ElementDataFile = LOCAL", b"HeaderSize = -1\nElementDataFile = ct.raw")
    (tmp_path / "ct.mhd").write_bytes(last)
    (tmp_path / "ct.raw").write_bytes(b"some words" + truth.tobytes())
    assert_is_truth(tmp_path / "ct.mhd", truth, affine)


def replaced(pattern, new):
    return lambda content: re.sub(pattern, new, content, count=1)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-100], "the data are cut short"),
        (lambda content: b"no header " * 50, "no readable MetaImage file"),
        (replaced(rb"LOCAL", b"/etc/passwd"), "lies elsewhere"),
        (replaced(rb"LOCAL", b"../ct.raw"), "lies elsewhere"),
        (replaced(rb"LOCAL", b"LIST"), "in several files; save it as one .mha"),
        (replaced(rb"LOCAL", b"slice%03d.raw 1 100 1"), "in several files; save it as one .mha"),
        (replaced(rb"LOCAL", b"50%.raw"), "no data file '50%.raw' beside it; copy"),
        (replaced(rb"LOCAL", b"a\0b"), "no data file 'a b' beside it"),
        (replaced(rb"DimSize = [\d ]+", b"DimSize = 9000 9000 9000"), "a grid of"),
        (replaced(rb"MET_SHORT", b"MET_UCHAR"), "8-bit values"),
        (replaced(rb"ElementType", b"ElementNumberOfChannels = 3\nElementType"), "values of type"),
        (replaced(rb"BinaryData = True", b"BinaryData = False"), "written as text"),
        (replaced(rb"ElementSpacing = [\d. ]+", b"ElementSpacing = 0 0 0"), "ct.mha"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, truth, damage, reason):
    path = tmp_path / "ct.mha"
    path.write_bytes(damage(written(path, truth)))
    with pytest.raises(DataError, match=reason) as error:
        read(path)
    assert "ct.mha" in error.value.where and "\n" not in str(error.value)


def test_bombs_and_streams_cut_short(tmp_path, truth):
    path = tmp_path / "ct.mha"
    header = written(path, truth)[: -2 * truth.size]
    header = header.replace(b"CompressedData = False", b"CompressedData = True")
    assert b"CompressedData = True" in header
    path.write_bytes(header + zlib.compress(truth.tobytes())[:-50])
    with pytest.raises(DataError, match=r"the data cannot be unpacked .*too early"):
        read(path)
    large = re.sub(rb"DimSize = [\d ]+", b"DimSize = 500 500 300", header)
    path.write_bytes(large + zlib.compress(bytes(150_000_000), 9))
    with pytest.raises(DataError, match="unpacks to far more"):
        read(path, limits=ArchiveLimits())
