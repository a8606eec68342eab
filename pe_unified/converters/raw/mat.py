"""Masks in MATLAB files, v5 and v7.3, slice by slice."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from pe_unified.converters.raw.mat_v5 import MatFormatError, variables
from pe_unified.errors import DataError

_HDF5_MARK = b"\x89HDF\r\n\x1a\n"
#: Number of slices in memory at a time.
_BLOCK = 16
_COPY_AGAIN = "download the file again"
_NAME_IT = "name the mask's variable with --variable"


@contextmanager
def open_mat(path: Path, variable: str) -> Iterator["MatMask"]:
    """Open a mask volume by the name of its variable.

    Raises:
        DataError: no such file, unreadable, no such variable, or not three axes of numbers;
            also raised while slices are read.
    """
    if not path.is_file():
        raise DataError(path, "no such mask file", "put it there or remove the patient's scan")
    try:
        with open(path, "rb") as file:
            head = file.read(520)
            file.seek(0)
            if head.startswith(_HDF5_MARK) or head[512:520] == _HDF5_MARK:
                with h5py.File(path, "r") as hdf5:
                    yield _from_hdf5(path, variable, hdf5)
            else:
                yield _from_v5(path, variable, file)
    except (OSError, MatFormatError) as error:
        first = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise DataError(path, f"not a readable MATLAB file ({first})", _COPY_AGAIN) from error


class MatMask:
    """A mask volume that yields its slices in order, once.

    Attributes:
        shape: (rows, cols, slices).
    """

    def __init__(self, path: Path, shape: tuple[int, ...], blocks: Iterator[np.ndarray]):
        self.path, self._blocks = path, blocks
        self.shape: tuple[int, int, int] = (int(shape[0]), int(shape[1]), int(shape[2]))

    def slices(self) -> Iterator[np.ndarray]:
        """Yield each slice: uint8 (rows, cols), 0 or 1.

        Raises:
            DataError: values that are neither 0 nor 1 (nor 0 and 255).
        """
        nothing = np.zeros(self.shape[:2], dtype=np.uint8)
        for block in self._blocks:
            for level in block:
                yield self._binary(level) if level.any() else nothing

    def _binary(self, level: np.ndarray) -> np.ndarray:
        positive = level == level.max()
        if level.max() not in (1, 255) or np.count_nonzero(positive) != np.count_nonzero(level):
            values = np.unique(level)
            shown = ", ".join(str(value) for value in values[:5].tolist())
            reason = f"the mask holds {shown}{', ...' if len(values) > 5 else ''}, not 0 and 1"
            raise DataError(self.path, reason, _COPY_AGAIN)
        return positive.astype(np.uint8)


def _from_v5(path: Path, name: str, file: BinaryIO) -> MatMask:
    names = []
    for found in variables(file):
        names.append(found.name)
        if found.name == name:
            _need_volume(path, name, found.shape, found.dtype)
            return MatMask(path, found.shape, found.blocks(_BLOCK))
    raise _no_variable(path, name, names)


def _from_hdf5(path: Path, name: str, file: h5py.File) -> MatMask:
    if name not in file:
        raise _no_variable(path, name, [key for key in file if not key.startswith("#")])
    data = file[name]
    if not isinstance(data, h5py.Dataset):
        raise DataError(path, f"'{name}' is no array of numbers", _NAME_IT)
    # HDF5 stores MATLAB's axes in reverse: (slices, cols, rows).
    shape = data.shape[::-1]
    _need_volume(path, name, shape, data.dtype)
    blocks = (
        np.swapaxes(data[start : start + _BLOCK], 1, 2) for start in range(0, shape[2], _BLOCK)
    )
    return MatMask(path, shape, blocks)


def _no_variable(path: Path, name: str, names: list[str]) -> DataError:
    listed = ", ".join(names) or "nothing"
    return DataError(path, f"no variable '{name}'; the file holds {listed}", _NAME_IT)


def _need_volume(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype | None) -> None:
    if len(shape) != 3 or dtype is None or dtype.kind not in "buif":
        reason = f"'{name}' has shape {shape}, not numbers (rows, cols, slices)"
        raise DataError(path, reason, _NAME_IT)
