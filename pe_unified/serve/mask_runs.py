"""Masks as runs of pixels, the form in which pages and server exchange them.

Runs are ``{slice: [start, length, value, ...]}`` with starts counted along the rows of a slice;
a mask of a few emboli takes a few kilobytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from pe_unified.ct.grids import Turn, turn_of
from pe_unified.errors import COPY_AGAIN, DataError

Runs = dict[int, list[int]]
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


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


def read_report_mask(path: Path, report: Mapping[str, Any]) -> np.ndarray:
    """The mask of a report, in the order of its slices.

    Args:
        path: ``mask.nii.gz``.
        report: the one it belongs to.

    Returns:
        uint8 (slices, rows, cols), lesion numbers.

    Raises:
        DataError: it cannot be read, or belongs to another study.
    """
    given = report["input"]
    try:
        image = nibabel.Nifti1Image.from_filename(path)
        stored = np.asarray(image.dataobj, dtype=np.uint8)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise DataError(path, "cannot be read", COPY_AGAIN, error) from error
    # For DICOM the axes are columns, rows and slices, whatever the patient's position.
    turn = Turn() if given["kind"] == "DICOM" else turn_of(_RAS_TO_LPS @ image.affine)
    mask = turn.apply(stored) if stored.ndim == 3 else stored
    if mask.shape != (given["slices"], given["rows"], given["cols"]):
        raise DataError(
            path, "does not have the size given in the report", "analyse the study again"
        )
    return mask
