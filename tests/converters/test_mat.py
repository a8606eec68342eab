import struct
import zlib

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from pe_unified.converters.raw.mat import open_mat
from pe_unified.errors import DataError

SHAPE = (12, 9, 21)  # rows, cols, slices: more slices than a block


@pytest.fixture
def mask():
    return (np.random.default_rng(0).random(SHAPE) < 0.1).astype(np.uint8)


def write_v73(path, mask, name="Mask", **options):
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset(name, data=mask.T, **options)
    content = bytearray(path.read_bytes())
    content[:19] = b"MATLAB 7.3 MAT-file"
    path.write_bytes(content)


def read(path, name="Mask"):
    with open_mat(path, name) as opened:
        assert opened.shape == SHAPE
        return np.stack(list(opened.slices()), axis=2)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int16, bool])
def test_v5(tmp_path, mask, dtype, compressed):
    savemat(tmp_path / "a.mat", {"Mask": mask.astype(dtype)}, do_compression=compressed)
    np.testing.assert_array_equal(read(tmp_path / "a.mat"), mask)


def test_other_variables_are_passed_over(tmp_path, mask):
    """Text, structures, small arrays and complex numbers before the mask."""
    others = {"note": "text", "meta": {"a": 1, "b": "x"}, "n": np.arange(3), "c": np.ones(2) * 1j}
    for compressed in (False, True):
        savemat(tmp_path / "a.mat", {**others, "Mask": mask}, do_compression=compressed)
        np.testing.assert_array_equal(read(tmp_path / "a.mat"), mask)
    with pytest.raises(DataError, match="the file holds note, meta, n, c, Mask"):
        read(tmp_path / "a.mat", "mask")


def test_big_endian(tmp_path, mask):
    """As written on SPARC and PowerPC: built by hand after the format's description."""

    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + b"\0" * (-len(data) % 8)

    body = element(6, struct.pack(">II", 11, 0)) + element(5, struct.pack(">3i", *SHAPE))
    body += element(1, b"Mask") + element(4, mask.astype(">u2").tobytes(order="F"))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    (tmp_path / "a.mat").write_bytes(header + element(14, body))
    np.testing.assert_array_equal(read(tmp_path / "a.mat"), mask)


def test_doubles_stored_as_bytes(tmp_path, mask):
    """MATLAB writes whole numbers in the narrowest type, whatever the variable's class."""

    def element(kind, data):
        return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)

    body = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<3i", *SHAPE))
    body += struct.pack("<HH4s", 1, 4, b"Mask") + element(2, mask.tobytes(order="F"))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    packed = zlib.compress(element(14, body))
    (tmp_path / "a.mat").write_bytes(header + struct.pack("<II", 15, len(packed)) + packed)
    np.testing.assert_array_equal(read(tmp_path / "a.mat"), mask)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "chunks": (5, 9, 12)}])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_v73(tmp_path, mask, dtype, options):
    write_v73(tmp_path / "a.mat", mask.astype(dtype), **options)
    np.testing.assert_array_equal(read(tmp_path / "a.mat"), mask)


def test_255_counts_as_one(tmp_path, mask):
    savemat(tmp_path / "a.mat", {"Mask": mask * 255})
    np.testing.assert_array_equal(read(tmp_path / "a.mat"), mask)


@pytest.mark.parametrize("v73", [False, True])
def test_wrong_variable_names_those_there(tmp_path, mask, v73):
    path = tmp_path / "a.mat"
    write_v73(path, mask, "Masks") if v73 else savemat(path, {"Masks": mask})
    with pytest.raises(DataError, match=r"no variable 'Mask'; the file holds Masks; .*--variable"):
        read(path)
    np.testing.assert_array_equal(read(path, "Masks"), mask)


@pytest.mark.parametrize("v73", [False, True])
def test_truncated(tmp_path, mask, v73):
    path = tmp_path / "a.mat"
    write_v73(path, mask) if v73 else savemat(path, {"Mask": mask})
    path.write_bytes(path.read_bytes()[: path.stat().st_size - 300])
    with pytest.raises(DataError, match=r"a\.mat: .*; download the file again"):
        read(path)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.zeros((4, 4), np.uint8), "has shape"),
        (np.array(["text"]), "has shape"),
        (np.full(SHAPE, 7, np.uint8), "holds 7, not 0 and 1"),
        (np.full(SHAPE, 0.5), r"holds 0\.5, not 0 and 1"),
        (np.full(SHAPE, np.nan), "holds nan"),
    ],
)
def test_no_mask(tmp_path, value, reason):
    savemat(tmp_path / "a.mat", {"Mask": value})
    with pytest.raises(DataError, match=reason):
        read(tmp_path / "a.mat")


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 200, b"MATLAB 5.0 MAT-file" * 30])
def test_rubbish(tmp_path, content):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mat"):
        read(tmp_path / "a.mat")


@pytest.mark.parametrize("position", [126, 130, 140, 170, 200, 215])
def test_damaged_bytes_never_pass_unnoticed(tmp_path, mask, position):
    """An altered header or tag gives an error that names the file, or the same mask."""
    path = tmp_path / "a.mat"
    savemat(path, {"Mask": mask}, do_compression=position % 4 == 0)
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    try:
        found = read(path)
    except DataError as error:
        assert "a.mat" in str(error)
    except AssertionError:
        pass  # the shape was altered, which the slices' count and size will show
    else:
        np.testing.assert_array_equal(found, mask)


def test_absent(tmp_path):
    with pytest.raises(DataError, match="no such mask file"):
        read(tmp_path / "a.mat")
