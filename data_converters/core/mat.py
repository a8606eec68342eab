"""Masks in MATLAB files, v5 and v7.3, as (rows, cols, slices)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from scipy.io import loadmat, whosmat
from scipy.io.matlab import MatReadError

from pe_unified.ct.errors import DataError

_HDF5_MARK = b"\x89HDF\r\n\x1a\n"
#: Slices read from an HDF5 file at a time.
_BLOCK = 16
_COPY_AGAIN = "download the file again"


@contextmanager
def open_mat(path: Path, variable: str) -> Iterator["MatMask"]:
    """A mask volume by its variable's name.

    Raises:
        DataError: no such file, unreadable, no such variable, or not three axes of numbers.
    """
    if not path.is_file():
        raise DataError(path, "no such mask file", "put it there or remove the patient's scan")
    try:
        with open(path, "rb") as file:
            head = file.read(520)
        if head.startswith(_HDF5_MARK) or head[512:520] == _HDF5_MARK:
            with h5py.File(path, "r") as file:
                yield _from_hdf5(path, variable, file)
        else:
            yield _from_v5(path, variable)
    except (OSError, MatReadError, NotImplementedError, TypeError, EOFError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        first = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise DataError(path, f"not a readable MATLAB file ({first})", _COPY_AGAIN) from error


class MatMask:
    """A mask volume that hands out its slices in order.

    Attributes:
        shape: (rows, cols, slices).
    """

    def __init__(self, path: Path, shape: tuple[int, ...], block: Callable[[int, int], np.ndarray]):
        self.path, self._block = path, block
        self.shape: tuple[int, int, int] = (int(shape[0]), int(shape[1]), int(shape[2]))

    def slices(self) -> Iterator[np.ndarray]:
        """Each slice in turn: uint8 (rows, cols), 0 or 1.

        Raises:
            DataError: values that are neither 0 nor 1 (nor 0 and 255).
        """
        count = self.shape[2]
        for start in range(0, count, _BLOCK):
            block = self._block(start, min(count, start + _BLOCK))
            if not block.any():
                yield from np.zeros(block.shape, dtype=np.uint8)
                continue
            values = np.unique(block)
            if not (set(values.tolist()) <= {0, 1} or set(values.tolist()) <= {0, 255}):
                shown = ", ".join(str(value) for value in values[:5].tolist())
                reason = f"the mask holds {shown}{', ...' if len(values) > 5 else ''}, not 0 and 1"
                raise DataError(self.path, reason, _COPY_AGAIN)
            yield from (block > 0).astype(np.uint8)


def _from_v5(path: Path, variable: str) -> MatMask:
    found = {name: shape for name, shape, _ in whosmat(path)}
    _need(path, variable, list(found))
    array = loadmat(path, variable_names=[variable])[variable]
    _need_volume(path, variable, array.shape, array.dtype)
    return MatMask(path, array.shape, lambda start, end: np.moveaxis(array[..., start:end], 2, 0))


def _from_hdf5(path: Path, variable: str, file: h5py.File) -> MatMask:
    _need(path, variable, [name for name in file if not name.startswith("#")])
    data = file[variable]
    if not isinstance(data, h5py.Dataset):
        raise DataError(path, f"'{variable}' is no array", "give --variable")
    # HDF5 keeps MATLAB's axes in reverse: (slices, cols, rows).
    shape = data.shape[::-1]
    _need_volume(path, variable, shape, data.dtype)
    return MatMask(path, shape, lambda start, end: np.swapaxes(data[start:end], 1, 2))


def _need(path: Path, variable: str, names: list[str]) -> None:
    if variable not in names:
        listed = ", ".join(names) or "nothing"
        reason = f"no variable '{variable}'; the file holds {listed}"
        raise DataError(path, reason, "name the mask's variable with --variable")


def _need_volume(path: Path, variable: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if len(shape) != 3 or dtype.kind not in "buif":
        reason = f"'{variable}' has shape {shape} of {dtype}, not numbers (rows, cols, slices)"
        raise DataError(path, reason, "name the mask's variable with --variable")
