"""MetaImage volumes (.mha, .mhd): the array as stored, and its position in the patient."""

import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from pe_unified.ct.archive import ArchiveLimits, unpack_stream
from pe_unified.ct.detached import data_file_of
from pe_unified.ct.grids import places
from pe_unified.ct.volume_files import RawArray, not_placed, require_sides
from pe_unified.errors import COPY_AGAIN, DataError

_SAVE_AGAIN = "save it as one .mha file of 16-bit integers or floats"
#: Maximum length of a header, bytes.
_LONGEST_HEADER = 1 << 16
#: NumPy types of MetaImage's type names.
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_DIRECTIONS = {"TransformMatrix", "Orientation", "Rotation"}


def open_meta(path: Path, scratch: Path, limits: ArchiveLimits) -> tuple[RawArray, np.ndarray]:
    """Open a MetaImage volume without loading it into memory.

    Args:
        path: the file, with its data attached (.mha) or next to it (.mhd).
        scratch: folder for unpacking compressed data.
        limits: for unpacking.

    Returns:
        The array on disk, and the affine to LPS mm.

    Raises:
        DataError: unreadable, truncated, not three axes, or its data are elsewhere.
    """
    said, start = _header(path)
    shape, affine = _grid(path, start, scratch)
    kind = _TYPES.get(said.get("ElementType", ""))
    if kind is None or said.get("ElementNumberOfChannels", "1") != "1":
        raise DataError(path, f"values of type '{said.get('ElementType')}'", _SAVE_AGAIN)
    high_first = _is(said, "BinaryDataByteOrderMSB") or _is(said, "ElementByteOrderMSB")
    dtype = (">" if high_first else "<") + kind
    data = data_file_of(path)
    if data != path:
        start = 0
    if not _is(said, "BinaryData", "True") or said.get("HeaderSize", "0") not in ("0", "-1"):
        raise DataError(path, "values written as text, or a header of another format", _SAVE_AGAIN)
    needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if said.get("HeaderSize") == "-1":  # the values are at the end of the file
        start = max(start, data.stat().st_size - needed)
    if _is(said, "CompressedData"):
        plain = scratch / f"{path.name}.raw"
        with open(data, "rb") as file:
            file.seek(start)
            budget = limits.budget(data.stat().st_size)
            unpack_stream(_Inflating(file), plain, path, budget, needed, "the data ")
        data, start = plain, 0
    if data.stat().st_size - start < needed:
        raise DataError(path, "the data are cut short", COPY_AGAIN)
    return RawArray(data, start, dtype, shape, not _DIRECTIONS.isdisjoint(said)), affine


def _header(path: Path) -> tuple[dict[str, str], int]:
    """The entries of the header, and the position of its end."""
    said: dict[str, str] = {}
    with open(path, "rb") as file:
        while "ElementDataFile" not in said:
            line = file.readline(_LONGEST_HEADER)
            key, equals, value = line.decode("latin-1").partition("=")
            if not equals or file.tell() > _LONGEST_HEADER:
                raise DataError(path, "no readable MetaImage file", COPY_AGAIN)
            said[key.strip()] = value.strip()
        return said, file.tell()


def _is(said: dict[str, str], key: str, default: str = "False") -> bool:
    return said.get(key, default).lower().startswith(("t", "1"))


def _grid(path: Path, end: int, scratch: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """The shape (i, j, k), and the affine to LPS mm, which is ITK's own coordinate system."""
    # ITK gets only the header, under a name with an ending that it accepts.
    copy = scratch / "header.mha"
    with open(path, "rb") as file:
        copy.write_bytes(file.read(end))
    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(copy))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DataError(path, "no readable MetaImage file", COPY_AGAIN, reason) from error
    shape = tuple(int(side) for side in reader.GetSize())
    if len(shape) != 3:
        raise DataError(path, f"{len(shape)} axes, not three", "export the volume as 3D")
    require_sides(path, shape)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
    affine[:3, 3] = reader.GetOrigin()
    if not places(affine):
        raise not_placed(path, shape)
    return shape, affine


class _Inflating:
    """Reads the decompressed bytes of a zlib or gzip stream within a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; empty at the end.

        Raises:
            EOFError: the stream ends too early.
        """
        while not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or self._file.read(size)
            if not packed:
                raise EOFError("the stream ends too early")
            if block := self._unpacker.decompress(packed, size):
                return block
        return b""
