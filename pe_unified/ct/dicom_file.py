"""Opens DICOM files that may be damaged, malicious, gzipped, or without a preamble."""

import gzip
import io
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from pe_unified.ct.archive import is_gzipped
from pe_unified.errors import COPY_OR_REMOVE, DataError

#: Maximum size of the file meta information, bytes.
_LARGEST_META = 1 << 20
#: Maximum size of a slice, bytes.
LARGEST_SLICE = 64 << 20
#: Advice for a file that is deflated as a whole.
UNCOMPRESSED = "export it uncompressed"


def open_dicom(path: Path, **options: object) -> pydicom.Dataset:
    """Open a DICOM file, with or without its preamble.

    Raises:
        DataError: no such file, not DICOM, or a header that cannot be read.
    """
    _refuse_inflated(path)
    try:
        with open_binary(path) as file:
            return pydicom.dcmread(file, **options)  # type: ignore[arg-type]
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(path, "no such file", "check the path") from None
    except pydicom.errors.InvalidDicomError:
        pass
    except Exception as error:
        raise DataError(path, "unreadable header", COPY_OR_REMOVE, error) from error
    # Old files lack the preamble; files that are not DICOM lack the SOP class, too.
    try:
        with open_binary(path) as file:
            dataset = pydicom.dcmread(file, force=True, **options)  # type: ignore[arg-type]
    except Exception as error:
        raise DataError(path, "unreadable header", COPY_OR_REMOVE, error) from error
    if "SOPClassUID" not in dataset:
        size = path.stat().st_size
        raise DataError(path, f"not a DICOM file ({size} bytes)", COPY_OR_REMOVE)
    if not hasattr(dataset.file_meta, "TransferSyntaxUID"):
        big = dataset.original_encoding == (False, False)
        dataset.file_meta.TransferSyntaxUID = (
            pydicom.uid.ExplicitVRBigEndian if big else pydicom.uid.ImplicitVRLittleEndian
        )
    return dataset


def is_compressed(dataset: pydicom.Dataset) -> bool:
    """Whether the pixels are compressed, even in an unknown way."""
    syntax = dataset.file_meta.TransferSyntaxUID
    return not syntax.is_transfer_syntax or syntax.is_encapsulated


class _BoundedFile(io.BufferedReader):
    """A file that never allocates more than its own size, even if a damaged length asks for it."""

    def __init__(self, path: Path) -> None:
        raw = io.FileIO(os.fspath(path))
        super().__init__(raw)
        self._length = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None else min(size, self._length))


def open_binary(path: Path) -> BinaryIO:
    """Open a file to read its bytes. A gzipped file with such a name is decompressed, up to the
    maximum size of a slice.

    Raises:
        DataError: it cannot be decompressed.
        OSError: as :func:`open`.
    """
    if path.suffix.lower() != ".gz" or not is_gzipped(path):
        return _BoundedFile(path)
    try:
        with gzip.open(path) as packed:
            return io.BytesIO(packed.read(LARGEST_SLICE))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, "cannot be unpacked", COPY_OR_REMOVE, error) from error


def _refuse_inflated(path: Path) -> None:
    """Refuse a deflated file that expands far beyond a slice; pydicom would expand all of it."""
    try:
        with open_binary(path) as file:
            syntax = _transfer_syntax(file)
            if file.tell() > _LARGEST_META:
                raise DataError(
                    path, "a header of megabytes before the slice's own", COPY_OR_REMOVE
                )
            if syntax != DeflatedExplicitVRLittleEndian:
                return
            unpacked = zlib.decompressobj(-zlib.MAX_WBITS)
            unpacked.decompress(file.read(LARGEST_SLICE), LARGEST_SLICE)
    except (OSError, zlib.error):  # the reader gives the better message
        return
    if unpacked.unconsumed_tail:
        reason = "unpacks to far more than a slice (a bomb?)"
        raise DataError(path, reason, UNCOMPRESSED)


def _transfer_syntax(file: BinaryIO) -> str:
    """The transfer syntax of a file with or without preamble; the file is left at the data set."""
    start = 132 if file.read(132)[128:] == b"DICM" else 0
    syntax = ""
    while start <= _LARGEST_META:
        file.seek(start)
        head = file.read(12)
        if len(head) < 12 or head[:2] != b"\x02\x00":
            break
        kind = head[4:6].decode("ascii", "replace")
        if not (kind.isalpha() and kind.isupper()):  # no VR is given, against the standard
            begin, length = 8, int.from_bytes(head[4:8], "little")
        elif kind in EXPLICIT_VR_LENGTH_32:
            begin, length = 12, int.from_bytes(head[8:12], "little")
        else:
            begin, length = 8, int.from_bytes(head[6:8], "little")
        if head[2:4] == b"\x10\x00":
            file.seek(start + begin)
            syntax = file.read(min(length, 128)).decode("ascii", "replace").strip(" \0")
        start += begin + length
    file.seek(start)
    return syntax
