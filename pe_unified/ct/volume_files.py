"""Volumes in one file, NRRD or NIfTI: the array as stored, and as Hounsfield units."""

import bz2
import gzip
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np

from pe_unified.ct.archive import ArchiveLimits, unpack_stream
from pe_unified.ct.detached import data_file_of
from pe_unified.ct.grids import places
from pe_unified.ct.hu import HU_MAX, HU_MIN, HU_OFFSET
from pe_unified.errors import COPY_AGAIN, DataError

#: Maximum number of voxels of a CT along an axis.
_LARGEST_SIDE = 20_000
#: Maximum number of voxels: 3,000 slices of 1,024 x 1,024.
_MOST_VOXELS = 3_500_000_000
#: Additional bytes that may be unpacked, because data come in blocks.
_SPARE = 1 << 20
#: Signs that convert the named coordinate systems of NRRD to LPS.
_NRRD_SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
    "scanner-xyz": (1, 1, 1),
}
#: NumPy types of NRRD's type names.
_NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int"), "i2"),
    **dict.fromkeys(("int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int"), "u2"),
    **dict.fromkeys(("uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    "float": "f4",
    "double": "f8",
}


@dataclass(frozen=True)
class RawArray:
    """An uncompressed array on disk, which any process can open without copying it.

    Attributes:
        placed: whether the header gives the patient's orientation, not only the voxel spacing.
    """

    path: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]
    placed: bool = True

    def open(self) -> np.ndarray:
        """The array (i, j, k), read-only; data are read from disk when used."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, "F")


def open_nrrd(
    path: Path,
    scratch: Path | None = None,
    limits: ArchiveLimits | None = None,
    layers: bool = False,
) -> tuple[RawArray, np.ndarray | None]:
    """Open a NRRD volume without loading it into memory.

    Args:
        path: the file, with its data attached or detached.
        scratch: folder for unpacking compressed data; needed only for those.
        limits: for unpacking; by default the size given in the header. A mask compresses far
            better than a CT.
        layers: whether an axis of layers may precede the spatial axes, as in segmentations of
            3D Slicer.

    Returns:
        The array on disk, and the affine to LPS mm, or None if the header has none.

    Raises:
        DataError: unreadable, truncated, or not three axes.
    """
    data = data_file_of(path)
    try:
        with open(path, "rb") as file:
            header = nrrd.read_header(file)
            start = file.tell()
        shape = tuple(int(size) for size in header["sizes"])
        affine = _nrrd_affine(header)
        encoding = str(header["encoding"]).lower()
    except Exception as error:  # errors of the reader caused by a damaged header
        raise DataError(path, "no readable NRRD file", COPY_AGAIN, error) from error
    if len(shape) != 3 and not (layers and len(shape) == 4):
        raise DataError(path, f"{len(shape)} axes, not three", "export the volume as 3D")
    require_sides(path, shape)
    kind = _NRRD_TYPES.get(str(header.get("type")).lower())
    if kind is None:
        raise DataError(path, f"values of type '{header.get('type')}'", "save it as short or float")
    dtype = (">" if str(header.get("endian", "little")).lower() == "big" else "<") + kind
    if data != path:
        path, start = data, 0
    unusual = any(header.get(key) for key in ("lineskip", "line skip", "byteskip", "byte skip"))
    if unusual or encoding not in ("raw", "gzip", "gz", "bzip2", "bz2"):
        raise DataError(path, f"NRRD encoding '{encoding}' or skips", "save it as gzip or raw")
    needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
    plain, offset = path, start
    if encoding != "raw":
        if scratch is None:
            raise ValueError("compressed NRRD needs a scratch folder")
        plain, offset = scratch / f"{path.name}.raw", 0
        budget = limits.budget(os.path.getsize(path)) if limits else needed + _SPARE
        _unpack(path, start, plain, encoding, needed, budget)
    if os.path.getsize(plain) - offset < needed:
        raise DataError(path, "the data are cut short", COPY_AGAIN)
    placed = _nrrd_space(header) is not None
    return RawArray(plain, offset, dtype, shape, placed), affine


def require_sides(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse the grid of an impossible CT before memory is allocated for it.

    Raises:
        DataError: it is too large, or empty.
    """
    voxels = int(np.prod(shape, dtype=object))
    if min(shape) < 1 or max(shape) > _LARGEST_SIDE or voxels > _MOST_VOXELS:
        raise DataError(path, f"a grid of {shape} voxels", "check that it is the CT")


def not_placed(path: Path, shape: tuple[int, ...]) -> DataError:
    """The error for a volume whose axes do not span space."""
    reason = f"a grid of {shape} voxels whose position its header does not give"
    return DataError(path, reason, "correct its spacing and orientation, or export it again")


def _unpack(path: Path, start: int, target: Path, encoding: str, needed: int, budget: int) -> None:
    """Decompress the data of a NRRD file; stop after ``needed`` bytes."""
    with open(path, "rb") as file:
        file.seek(start)
        packed = bz2.BZ2File(file) if encoding.startswith("bz") else gzip.GzipFile(fileobj=file)
        with packed:
            unpack_stream(packed, target, path, budget, needed, "the data ")


def _nrrd_space(header: dict) -> tuple[np.ndarray, tuple[int, int, int]] | None:
    """Directions of the axes and the signs that convert them to LPS; None if not given."""
    directions = header.get("space directions")
    signs = _NRRD_SPACES.get(str(header.get("space", "")).lower())
    if directions is None or signs is None or not np.isfinite(directions[-3:]).all():
        return None
    return np.asarray(directions[-3:], dtype=np.float64), signs  # a layer has no direction


def _nrrd_affine(header: dict) -> np.ndarray | None:
    space = _nrrd_space(header)
    if space is not None:
        directions, signs = space
        affine = np.eye(4)
        affine[:3, :3] = (directions * signs).T
        affine[:3, 3] = np.asarray(header.get("space origin", (0, 0, 0))) * signs
        return affine if places(affine) else None
    spacings: Any = header.get("spacings")
    if "space directions" in header:  # in a space without the patient's axes
        spacings = np.linalg.norm(header["space directions"][-3:], axis=1)
    if spacings is not None and np.isfinite(spacings).all() and min(spacings) > 0:
        return np.diag([*spacings, 1.0])
    return None


def read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a NIfTI volume: the array (i, j, k), in its stored type if it has no scaling, else as
    float32; and the affine to LPS mm.

    Raises:
        DataError: unreadable, truncated, or not three axes.
    """
    proxy, affine, _ = open_nifti(path)
    try:
        plain = proxy.slope == 1.0 and proxy.inter == 0.0
        array = np.asanyarray(proxy) if plain else np.asarray(proxy, dtype=np.float32)
    except _NIFTI_ERRORS as error:
        raise _no_nifti(path, error) from error
    return array, affine


def open_nifti(
    path: Path, name: Path | None = None
) -> tuple[nibabel.arrayproxy.ArrayProxy, np.ndarray, str]:
    """Open a NIfTI volume that is read when it is indexed.

    Args:
        path: the file.
        name: the name used in errors, if it was unpacked from another file.

    Returns:
        An object indexed like an array (i, j, k), the affine to LPS mm, the stored type.

    Raises:
        DataError: unreadable, not three axes, or an invalid affine.
    """
    name = name or path
    try:
        return _open_nifti(path, name)
    except DataError:
        raise
    except Exception as error:  # errors of the reader caused by a damaged header
        raise _no_nifti(name, error) from error


def _open_nifti(path: Path, name: Path) -> tuple[nibabel.arrayproxy.ArrayProxy, np.ndarray, str]:
    image = nibabel.load(path)
    proxy = image.dataobj  # type: ignore[attr-defined]
    shape = tuple(int(side) for side in proxy.shape)
    affine = np.asarray(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
    if len(shape) == 4 and shape[3] == 1:
        proxy = proxy.reshape(shape[:3])
    elif len(shape) != 3:
        raise DataError(name, f"{len(shape)} axes, not three", "export the volume as 3D")
    dtype = np.dtype(proxy.dtype)
    if dtype.kind not in "iuf":
        raise DataError(name, f"values of type {dtype}", "save it as 16-bit integers or floats")
    require_sides(name, shape[:3])
    stored = int(proxy.offset) + int(np.prod(shape[:3], dtype=np.int64)) * dtype.itemsize
    if path.suffix.lower() != ".gz" and stored > path.stat().st_size:
        raise DataError(name, "the data are cut short", COPY_AGAIN)
    if not places(affine):
        raise not_placed(name, shape)
    return proxy, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, dtype.str


def nifti_is_placed(path: Path) -> bool:
    """Whether the header of a readable NIfTI file gives the patient's orientation."""
    header = nibabel.load(path).header
    return any(int(header[code]) for code in ("qform_code", "sform_code"))  # type: ignore[index]


_NIFTI_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    OverflowError,
    zlib.error,
    nibabel.filebasedimages.ImageFileError,
    nibabel.spatialimages.HeaderDataError,
)


def _no_nifti(path: Path, error: Exception) -> DataError:
    return DataError(path, "no readable NIfTI file", COPY_AGAIN, error)


def volume_shift(levels: Iterable[np.ndarray]) -> int:
    """The value to add to the stored numbers of a CT volume, given as its slices, to get HU.

    CT without any negative value was stored with an offset of 1024.
    """
    lowest = np.fmin.reduce([np.fmin.reduce(level, axis=None) for level in levels])
    return -HU_OFFSET if lowest >= 0 else 0


def level_to_hu(level: np.ndarray, shift: int) -> np.ndarray:
    """One slice of a stored volume: int16 (rows, cols), Hounsfield units; NaN becomes air."""
    if level.dtype.kind == "f":
        level = np.clip(np.nan_to_num(level, nan=HU_MIN - shift), HU_MIN - shift, HU_MAX - shift)
        level = np.rint(level)
    return np.clip(level.astype(np.int64) + shift, HU_MIN, HU_MAX).astype(np.int16)
