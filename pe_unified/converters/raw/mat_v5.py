"""Reads MATLAB v5 files as a stream: mask volumes of any size, with little memory.

Format from "MAT-File Format", The MathWorks: a header of 128 bytes, then elements of a tag (type,
size) and data padded to 8 bytes; a variable is a matrix element, usually inside a compressed one.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

_MATRIX, _COMPRESSED = 14, 15
#: Types of stored numbers, which may be narrower than the type of the variable.
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
#: Classes of variables that are plain numeric arrays.
_NUMERIC_CLASSES = range(6, 16)
_BLOCK = 1 << 18


class MatFormatError(ValueError):
    """Not a MATLAB v5 file, or a truncated one."""


@dataclass
class Variable:
    """A variable whose numbers have not been read yet.

    Attributes:
        dtype: None if it is not a numeric array (text, a structure, a sparse matrix).
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype | None
    _source: "_Source"

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """For three axes (rows, cols, slices): ``size`` slices at a time, (n, rows, cols)."""
        assert self.dtype is not None and len(self.shape) == 3
        rows, cols, count = self.shape
        for start in range(0, count, size):
            part = min(size, count - start)
            data = self._source.read(rows * cols * part * self.dtype.itemsize)
            block = np.frombuffer(data, self.dtype).reshape((rows, cols, part), order="F")
            yield np.moveaxis(block, 2, 0)
        self._source.finish()


def variables(file: BinaryIO) -> Iterator[Variable]:
    """Yield the variables of an open file; each must be read before the next is requested.

    Raises:
        MatFormatError: not such a file, or truncated.
    """
    header = file.read(128)
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
    if order is None or struct.unpack(f"{order}H", header[124:126])[0] != 0x0100:
        raise MatFormatError("no MATLAB v5 header")
    while tag := file.read(8):
        if len(tag) < 8:
            raise MatFormatError("cut short")
        kind, size = struct.unpack(f"{order}II", tag)
        end = file.tell() + size
        if kind == _COMPRESSED:
            source = _Source(file, order, zlib.decompressobj())
            inner, _ = struct.unpack(f"{order}II", source.read(8))
            if inner == _MATRIX:
                yield _variable(source)
        elif kind == _MATRIX:
            yield _variable(_Source(file, order))
        file.seek(end)


class _Source:
    """A fixed number of bytes of a file, decompressed if needed."""

    def __init__(self, file: BinaryIO, order: str, inflate: "zlib._Decompress | None" = None):
        self._file, self.order, self._inflate = file, order, inflate
        self._packed = b""

    def read(self, size: int) -> bytes:
        data = self._file.read(size) if self._inflate is None else self._inflated(size)
        if len(data) < size:
            raise MatFormatError("cut short")
        return data

    def finish(self) -> None:
        """Decompress the rest, so that the checksum at the end is verified."""
        if self._inflate is not None:
            while not self._inflate.eof:
                if not self._inflated(_BLOCK) and not self._inflate.eof:
                    raise MatFormatError("cut short")

    def _inflated(self, size: int) -> bytes:
        assert self._inflate is not None
        parts: list[bytes] = []
        while size > 0:
            # At the end of the file the decompressor may still hold output.
            self._packed = self._packed or self._file.read(_BLOCK)
            try:
                part = self._inflate.decompress(self._packed, size)
            except zlib.error as error:
                raise MatFormatError(f"damaged data ({error})") from error
            at_end = not self._packed or self._inflate.eof
            self._packed = self._inflate.unconsumed_tail
            if at_end and not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def element(self) -> tuple[int, int, bytes | None]:
        """Type and size of the next element, and its data if they are packed into the tag."""
        tag = self.read(8)
        kind, size = struct.unpack(f"{self.order}II", tag)
        if kind >> 16:
            return kind & 0xFFFF, kind >> 16, tag[4 : 4 + (kind >> 16)]
        return kind, size, None

    def small(self) -> tuple[int, bytes]:
        """Type and data of the next element, which must be small."""
        kind, size, data = self.element()
        if data is None:
            if size > 1 << 16:
                raise MatFormatError("damaged data (an endless name)")
            data = self.read(size + -size % 8)[:size]
        return kind, data


def _variable(source: _Source) -> Variable:
    _, flags = source.small()
    _, dims = source.small()
    _, name = source.small()
    if len(flags) < 4 or len(dims) % 4:
        raise MatFormatError("damaged data (no array)")
    (bits,) = struct.unpack(f"{source.order}I", flags[:4])
    shape = struct.unpack(f"{source.order}{len(dims) // 4}i", dims)
    dtype = None
    if bits & 0xFF in _NUMERIC_CLASSES and not bits & 0x0800 and len(shape) == 3:
        kind, size, _ = source.element()
        if kind not in _NUMBERS:
            raise MatFormatError(f"damaged data (numbers of type {kind})")
        dtype = np.dtype(source.order + _NUMBERS[kind])
        if size != int(np.prod(shape)) * dtype.itemsize:
            raise MatFormatError("damaged data (size and shape differ)")
    return Variable(name.decode("latin-1"), shape, dtype, source)
