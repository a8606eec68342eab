"""Arrays that take seconds to compute, kept on disk and read in parts."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pe_unified.errors import DataError
from pe_unified.files import appearing

_KEY_LENGTH = 16


def stored_array(
    folder: Path,
    name: str,
    digest: str,
    kind: str,
    compute: Callable[[], tuple[tuple[int, ...], Iterator[np.ndarray]]],
) -> np.ndarray:
    """The array ``<name>-<key>.<kind>.npy``, memory-mapped; computed if it is missing or damaged.

    The key is the start of ``digest``, which must change with anything that the array depends on.

    Args:
        compute: returns the array's shape, and its levels along the first axis in order, which all
            have the type of the first.

    Raises:
        DataError: there is no space for it, or no permission.
    """
    path = folder / f"{name}-{digest[:_KEY_LENGTH]}.{kind}.npy"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, NotADirectoryError, ValueError, EOFError):
        shape, levels = compute()
    try:
        with appearing(path) as partial:
            first = next(levels)
            whole = np.lib.format.open_memmap(partial, "w+", first.dtype, shape)
            whole[0] = first
            for index, level in enumerate(levels, start=1):
                whole[index] = level
            whole.flush()
            del whole
    except DataError:
        raise
    except OSError as error:
        cure = "set store=FOLDER, with enough free space"
        raise DataError(folder, "volumes and masks cannot be stored there", cure, error) from error
    return np.load(path, mmap_mode="r", allow_pickle=False)
