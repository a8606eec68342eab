"""The mask of a study as NIfTI, in the geometry of the input."""

import gzip
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np

from pe_unified.ct.study import CTStudy

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_mask(path: Path, study: CTStudy, pixels: Mapping[int, Mapping[int, np.ndarray]]) -> None:
    """Write ``mask.nii.gz``: uint8, 0 background, the lesion's number elsewhere.

    A study that came as one file keeps that file's grid and orientation; for DICOM the axes are
    columns, rows and slices from feet to head. Lesions above 255 share the number 255.

    Args:
        path: ends in ``.nii.gz``.
        study: gives the geometry.
        pixels: by lesion number, by slice, the row-major numbers of its pixels.
    """
    by_slice: dict[int, list[tuple[int, np.ndarray]]] = {}
    for number, slices in pixels.items():
        for index, own in slices.items():
            by_slice.setdefault(index, []).append((min(number, 255), own))
    grid = study.grid
    count, rows, cols = study.shape
    shape = (cols, rows, count) if grid is None else grid.shape
    affine = study.affine_lps() if grid is None or grid.affine_lps is None else grid.affine_lps
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    header.set_sform(_LPS_TO_RAS @ affine, code=1)
    header.set_qform(_LPS_TO_RAS @ affine, code=1)
    header["vox_offset"] = 352
    header["descrip"] = b"pe_unified: research software, not a medical device"
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) as file:
        file.write(header.binaryblock + b"\0" * 4)
        if grid is None or (grid.turn.axes[0] == 2 and not grid.turn.flips[0]):
            for index in range(count):
                level = _level(by_slice.get(index, []), (rows, cols))
                file.write(_turned_back(level, study).tobytes("F"))
            return
        whole = np.zeros(shape, np.uint8)
        view = grid.turn.apply(whole)
        for index, parts in by_slice.items():
            view[index] = _level(parts, (rows, cols))
        file.write(whole.tobytes("F"))


def _level(parts: list[tuple[int, np.ndarray]], shape: tuple[int, int]) -> np.ndarray:
    level = np.zeros(shape, np.uint8)
    for number, own in parts:
        level.ravel()[own] = number
    return level


def _turned_back(level: np.ndarray, study: CTStudy) -> np.ndarray:
    """A slice (rows, cols) in the file's order of its first two axes."""
    if study.grid is None:
        return level.T
    turn = study.grid.turn
    level = level[tuple(slice(None, None, -1 if flip else 1) for flip in turn.flips[1:])]
    return level if turn.axes[1] < turn.axes[2] else level.T
