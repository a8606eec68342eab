import zlib

import numpy as np
import pydicom
import pytest
from dicom_files import slice_dataset, write_jpeg, write_slice
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from pe_unified.ct.dicom import read_hu
from pe_unified.ct.headers import list_files, natural_key, read_headers, scan_folder
from pe_unified.errors import DataError, first_line


@pytest.fixture
def truth():
    """HU from air to bone, (64, 72), with tissue of all kinds."""
    rng = np.random.default_rng(0)
    hu = rng.integers(-1024, 1500, (64, 72)).astype(np.int16)
    hu[:3] = -1000
    return hu


def stored(hu, dtype=np.uint16, offset=1024):
    return (hu.astype(np.int32) + offset).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_slices(tmp_path, truth, syntax, dtype):
    ds = slice_dataset(stored(truth, dtype))
    ds.compress(syntax)
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert pydicom.dcmread(tmp_path / "a.dcm").file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_hu(tmp_path / "a.dcm"), truth)


def test_jpeg_lossless(tmp_path, truth):
    written = pydicom.dcmread(write_jpeg(tmp_path / "jpeg.dcm", stored(truth)))
    assert written.file_meta.TransferSyntaxUID == pydicom.uid.JPEGLosslessSV1
    np.testing.assert_array_equal(read_hu(tmp_path / "jpeg.dcm"), truth)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_plain_encodings(tmp_path, truth, syntax):
    ds = slice_dataset(stored(truth))
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = stored(truth).byteswap().tobytes()
        ds["PixelData"].VR = "OW"
    ds.save_as(
        tmp_path / "a.dcm",
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )
    np.testing.assert_array_equal(read_hu(tmp_path / "a.dcm"), truth)


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_file_without_preamble(tmp_path, truth, implicit, little):
    ds = slice_dataset(stored(truth))
    meta = ds.file_meta
    del ds.file_meta
    if not little:
        ds.PixelData = stored(truth).byteswap().tobytes()
        ds["PixelData"].VR = "OW"
    ds.save_as(tmp_path / "bare", implicit_vr=implicit, little_endian=little)
    assert meta.MediaStorageSOPInstanceUID == read_headers(tmp_path / "bare")[0].sop_uid
    np.testing.assert_array_equal(read_hu(tmp_path / "bare"), truth)


@pytest.mark.parametrize(
    ("dtype", "offset", "slope", "intercept"),
    [
        (np.uint16, 1024, 1, -1024),
        (np.uint16, 1024, None, None),  # nothing said: unsigned numbers carry the offset
        (np.uint16, 1024, 1, 0),  # said wrongly: unsigned numbers cannot be HU
        (np.uint16, 1024, 0, -1024),  # a slope of zero is no slope
        (np.int16, 0, 1, 0),
        (np.int16, 0, None, None),  # signed numbers as dark as air are HU
        (np.int16, 1024, None, None),  # signed numbers without any negative are not
        (np.uint16, 8192, 1, -8192),
        (np.int32, 0, 1, 0),
    ],
)
def test_missing_and_odd_rescale(tmp_path, truth, dtype, offset, slope, intercept):
    path = write_slice(
        tmp_path / "a",
        stored(truth, dtype, offset),
        RescaleSlope=slope,
        RescaleIntercept=intercept,
    )
    np.testing.assert_array_equal(read_hu(path), truth)


def test_signed_slices_of_fat_alone_are_hu(tmp_path):
    """Below the lungs, in a small field of view, with padding; no intercept is told."""
    hu = np.full((32, 32), 60, dtype=np.int16)
    hu[:4] = -110
    hu[0, :3] = -2000
    path = write_slice(tmp_path / "a", hu, RescaleIntercept=None, PixelPaddingValue=None)
    assert read_hu(path)[10, 10] == 60
    offset = np.full((32, 32), 1084, dtype=np.int16)
    offset[5, 5] = -31  # noise of air is no fat
    assert read_hu(write_slice(tmp_path / "b", offset, RescaleIntercept=None))[10, 10] == 60


def test_fractional_slope(tmp_path):
    raw = np.arange(0, 4000, 10, dtype=np.uint16).reshape(20, 20)
    path = write_slice(tmp_path / "a", raw, RescaleSlope="0.488281", RescaleIntercept="-1000.5")
    expected = np.rint(raw * 0.488281 - 1000.5)
    np.testing.assert_array_equal(read_hu(path), expected)


def test_tissue_without_air_keeps_a_declared_zero(tmp_path):
    """A signed slice that says intercept 0 is believed, air or not."""
    raw = np.full((8, 8), 40, dtype=np.int16)
    assert read_hu(write_slice(tmp_path / "a", raw, RescaleIntercept=0)).min() == 40


@pytest.mark.parametrize(
    ("dtype", "offset", "padding"),
    [
        (np.int16, 0, -2000),
        (np.int16, 1024, -2000),
        (np.uint16, 1024, 63536),  # -2000 written into unsigned numbers
        (np.int16, 0, -32768),
        (np.int16, 0, 3000),
    ],
)
def test_padding_becomes_air(tmp_path, truth, dtype, offset, padding):
    raw = stored(truth, dtype, offset)
    raw[:2, :5] = np.array(padding % 65536, np.uint16).astype(dtype)
    path = write_slice(
        tmp_path / "a", raw, RescaleIntercept=-offset, PixelPaddingValue=int(raw[0, 0])
    )
    hu = read_hu(path)
    assert (hu[:2, :5] == -1024).all()
    np.testing.assert_array_equal(hu[2:], truth[2:])


def test_padding_range(tmp_path, truth):
    raw = stored(truth, np.int16, 0)
    raw[0, :4] = [-3000, -2900, -2800, -2700]
    path = write_slice(
        tmp_path / "a",
        raw,
        RescaleIntercept=0,
        PixelPaddingValue=-3000,
        PixelPaddingRangeLimit=-2700,
    )
    assert (read_hu(path)[0, :4] == -1024).all()


def test_padding_value_that_tissue_has_too(tmp_path):
    """Zero outside the circle, and zero for water within: only the outside is filling."""
    raw = np.full((32, 32), 0, dtype=np.int16)
    raw[8:24, 8:24] = 50
    raw[14:18, 14:18] = 0
    hu = read_hu(write_slice(tmp_path / "a", raw, RescaleIntercept=0, PixelPaddingValue=0))
    assert hu[0, 0] == -1024 and hu[31, 31] == -1024
    assert hu[15, 15] == 0 and hu[10, 10] == 50


def test_sign_that_was_not_spread(tmp_path):
    """Two's complement in 12 bits, the upper four left empty."""
    hu = np.array([[-1000, -1, 0, 60], [300, 1500, -700, 2047]], dtype=np.int16)
    raw = (hu & 0x0FFF).astype(np.int16)
    path = write_slice(tmp_path / "a", raw, RescaleIntercept=0, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_hu(path), hu)


def test_bright_values_beyond_the_stored_bits_are_kept(tmp_path):
    """Declared as 12 bits signed, but holding the usual 0..3071 with an offset."""
    hu = np.array([[-1000, 60, 300, 2000]], dtype=np.int16)
    path = write_slice(tmp_path / "a", stored(hu, np.int16), BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_hu(path), hu)


def test_padding_beyond_the_stored_bits(tmp_path, truth):
    """12 bits declared, -2000 written as 63536 all the same."""
    raw = stored(truth)
    raw[:2, :5] = 63536
    path = write_slice(tmp_path / "a", raw, BitsStored=12, HighBit=11, PixelPaddingValue=63536)
    hu = read_hu(path)
    assert (hu[:2, :5] == -1024).all()
    np.testing.assert_array_equal(hu[2:], truth[2:])


def test_values_below_storage_are_clipped(tmp_path):
    raw = np.array([[-3000, -1024, 0]], dtype=np.int16)
    hu = read_hu(write_slice(tmp_path / "a", raw, RescaleIntercept=0))
    assert hu.tolist() == [[-1024, -1024, 0]]


def test_non_square_pixels_are_kept_as_they_are(tmp_path, truth):
    path = write_slice(tmp_path / "a", stored(truth), PixelSpacing=[0.5, 0.9])
    assert read_headers(path)[0].pixel_spacing == (0.5, 0.9)
    assert read_hu(path).shape == truth.shape


def test_truncated_pixels(tmp_path, truth):
    path = write_slice(tmp_path / "a.dcm", stored(truth))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"a\.dcm: .*decoded.*; copy the file again"):
        read_hu(path)


@pytest.mark.parametrize("content", [b"", b"DICM", b"<html>not found</html>" * 20])
def test_no_dicom_at_all(tmp_path, content):
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.dcm"):
        read_headers(path)


def test_absent_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_hu(tmp_path / "a.dcm")


def test_colour_and_multiframe_are_no_slices(tmp_path):
    colour = slice_dataset(np.zeros((8, 24), np.uint8))
    colour.SamplesPerPixel, colour.Columns, colour.PlanarConfiguration = 3, 8, 0
    colour.PhotometricInterpretation = "RGB"
    colour.save_as(tmp_path / "rgb", enforce_file_format=True)
    with pytest.raises(DataError, match="not one grey slice"):
        read_hu(tmp_path / "rgb")
    frames = slice_dataset(np.zeros((16, 8), np.uint16))
    frames.Rows, frames.NumberOfFrames = 8, 2
    frames.save_as(tmp_path / "many", enforce_file_format=True)
    with pytest.raises(DataError, match="single-frame"):
        read_hu(tmp_path / "many")


def test_header_with_odd_values(tmp_path):
    path = write_slice(
        tmp_path / "a",
        np.zeros((4, 4), np.uint16),
        PixelSpacing=[0, 0],
        InstanceNumber=None,
        ImageType="AXIAL",
        number=None,
    )
    header = read_headers(path)[0]
    assert header.pixel_spacing is None
    assert header.instance_number is None
    assert header.image_type == ("AXIAL",)


def test_scan_sorts_names_naturally_and_tells_slices_from_the_rest(tmp_path):
    for name in ("D10", "D2.dcm", "D1"):
        write_slice(tmp_path / "series" / name, np.zeros((4, 4), np.uint16))
    (tmp_path / "notes.txt").write_text("read me")
    (tmp_path / "DICOMDIR").write_bytes(b"x")
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "series" / "D3.dcm").write_bytes(b"cut")
    report = slice_dataset(np.zeros((2, 2), np.uint16), Modality="SR")
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(report, keyword)
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    scan = scan_folder(tmp_path)
    assert [header.path.name for header in scan.headers] == ["D1", "D2.dcm", "D10"]
    assert {path.name for path, _ in scan.ignored} == {"notes.txt", "DICOMDIR", "report.dcm"}
    assert [error.where.rsplit("/", 1)[1] for error in scan.broken] == ["D3.dcm"]


def test_natural_order():
    names = ["a10b2", "a10b10", "a9", "A1", "b1", "1"]
    assert sorted(names, key=natural_key) == ["1", "A1", "a9", "a10b2", "a10b10", "b1"]


def test_list_files_is_recursive(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1").write_text("")
    (tmp_path / "a2").write_text("")
    assert [path.name for path in list_files(tmp_path)] == ["a2", "1"]


def test_data_error_survives_pickling():
    import pickle

    error = pickle.loads(pickle.dumps(DataError("place", "why", "what to do")))
    assert (error.where, error.reason, error.cure) == ("place", "why", "what to do")
    assert str(error) == "place: why; what to do"


def test_names_that_no_terminal_should_see(tmp_path):
    assert natural_key("5\u00b2") and natural_key("D10") > natural_key("D2")
    error = DataError(tmp_path / "a\nb\x1b[2J", "wrong", "cure")
    assert str(error).isprintable() and error.where.endswith("a\nb\x1b[2J")


def test_what_the_system_says_comes_without_the_path():
    """A folder may be named after a patient."""
    assert first_line(PermissionError(13, "Permission denied", "/data/DOE^JANE")) == (
        "Permission denied"
    )
    assert first_line(ValueError("one\ntwo")) == "one"


def test_a_deflated_slice_is_read_and_a_bomb_is_not(tmp_path, truth):
    ds = slice_dataset(stored(truth))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_hu(tmp_path / "a.dcm"), truth)
    whole = (tmp_path / "a.dcm").read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(bytes(72 << 20)) + packer.flush()
    (tmp_path / "bomb.dcm").write_bytes(whole[:start] + bomb)
    with pytest.raises(DataError, match="unpacks to far more than a slice"):
        read_headers(tmp_path / "bomb.dcm")


@pytest.mark.parametrize("kind", [b"UV", b"OB", b""])
def test_a_bomb_whose_kind_of_packing_is_hidden(tmp_path, truth, kind):
    """Behind an element of 2,000 bytes; of a kind with a long length, or of none."""
    ds = slice_dataset(stored(truth))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    whole = (tmp_path / "a.dcm").read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    length = (2000).to_bytes(4, "little")
    first = b"\x02\x00\x03\x01" + (kind + b"\0\0" if kind else b"") + length + bytes(2000)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(bytes(72 << 20)) + packer.flush()
    (tmp_path / "b.dcm").write_bytes(whole[:144] + first + whole[144:start] + bomb)
    with pytest.raises(DataError, match="unpacks to far more than a slice"):
        read_hu(tmp_path / "b.dcm")


def test_without_names_whatever_is_cut_off():
    member = "O'NEIL^JANE" + "x" * 400
    error = DataError("/data/a.zip", f"member '{member}' leads out", "see 'JANE'", "JANE again")
    assert error.without_names() == "member '...' leads out; see '...'"
    assert "JANE again" in DataError("a", "reason", "cure", "JANE again").reason


def test_a_file_header_that_does_not_end(tmp_path, truth):
    """Millions of empty elements before the slice."""
    whole = write_slice(tmp_path / "a.dcm", stored(truth)).read_bytes()
    (tmp_path / "b.dcm").write_bytes(whole[:144] + b"\x02\x00\x02\x01UI\0\0" * (1 << 18))
    with pytest.raises(DataError, match="a header of megabytes"):
        read_headers(tmp_path / "b.dcm")


def test_an_intercept_that_cannot_be_guessed(tmp_path):
    """Stored with an offset of 8192: the usual one would make bone of air."""
    raw = np.linspace(-1000, 400, 64 * 64).reshape(64, 64).astype(np.int32) + 8192
    path = write_slice(tmp_path / "a", raw.astype(np.uint16), RescaleIntercept=None)
    with pytest.raises(DataError, match="the usual one, the lowest value is 6168 HU") as error:
        read_hu(path)
    assert str(path) in str(error.value)


@pytest.mark.filterwarnings("ignore:End of file")
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_a_compressed_slice_cut_short(tmp_path, truth, syntax):
    dataset = slice_dataset(stored(truth))
    dataset.compress(syntax)
    path = tmp_path / "I004.dcm"
    dataset.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(DataError, match=r"I004\.dcm: the pixels cannot be decoded \(the file ends"):
        read_hu(path)


@pytest.mark.parametrize(
    ("syntax", "said"),
    [
        ("1.2.840.10008.1.2.4.55", r"as JPEG Full Progression.* not supported; convert it.* --raw"),
        ("1.2.840.10008.1.2.4.110", "as JPEG XL Lossless, .* not supported; export the series"),
        ("1.2.840.10008.1.2.4.102", "as MPEG-4 .* not supported; export the series"),
        ("1.2.3.4", r"as 1\.2\.3\.4, which is not supported; export the series"),
    ],
)
def test_what_no_decoder_knows_is_not_copied_again(tmp_path, truth, syntax, said):
    dataset = slice_dataset(stored(truth))
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xc2" + bytes(200)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    # pydicom writes a private name, but none of the standard's that it does not know.
    private = syntax.replace("1.2.", "1.3.", 1)
    dataset.file_meta.TransferSyntaxUID = private
    dataset.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True)
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(content.replace(private.encode(), syntax.encode()))
    with pytest.raises(DataError, match=rf"a\.dcm: compressed {said}") as error:
        read_hu(tmp_path / "a.dcm")
    assert "copy the file" not in str(error.value)
