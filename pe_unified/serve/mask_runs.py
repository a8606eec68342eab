"""Masks as runs of pixels, the form in which pages and server exchange them.

Runs are ``{slice: [start, length, value, ...]}`` with starts counted along the rows of a slice;
a mask of a few emboli takes a few kilobytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Runs = dict[int, list[int]]


def runs_of(mask: np.ndarray) -> Runs:
    """The runs of a mask.

    Args:
        mask: uint8 (slices, rows, cols), 0 background.
    """
    found: Runs = {}
    for index, plane in enumerate(mask):
        if not plane.any():
            continue
        flat = plane.ravel()
        starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])
        runs = np.stack([starts[:-1], np.diff(starts), flat[starts[:-1]]], axis=1)
        found[index] = runs[runs[:, 2] > 0].ravel().tolist()
    return found


def mask_of(runs: Mapping[Any, Sequence[int]], shape: tuple[int, int, int]) -> np.ndarray:
    """The mask given by runs: uint8 (slices, rows, cols).

    Raises:
        ValueError: they do not fit into ``shape``, or are not valid runs.
    """
    mask = np.zeros(shape, np.uint8)
    size = shape[1] * shape[2]
    for index, told in runs.items():
        plane, numbers = int(index), np.asarray(told, np.int64)
        if not 0 <= plane < shape[0] or numbers.ndim != 1 or numbers.size % 3:
            raise ValueError("runs that do not fit")
        flat = mask[plane].reshape(-1)
        for start, length, value in numbers.reshape(-1, 3):
            if not (0 <= start < size and 0 < length <= size - start and 0 < value <= 255):
                raise ValueError("runs that do not fit")
            flat[start : start + length] = value
    return mask
