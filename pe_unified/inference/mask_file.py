"""The mask of a study as NIfTI, in the geometry of the input."""

import gzip
from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np

from pe_unified.ct.grids import Turn
from pe_unified.ct.study import CTStudy, FileGrid

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_mask(path: Path, study: CTStudy, pixels: Mapping[int, Mapping[int, np.ndarray]]) -> None:
    """Write ``mask.nii.gz``: uint8, 0 background, the lesion's number elsewhere.

    Written slice by slice, so that the mask is never whole in memory. A study that came as one
    file keeps that file's grid and orientation; for DICOM the axes are columns, rows and slices
    from feet to head. Lesions above 255 share the number 255.

    Args:
        path: ends in ``.nii.gz``.
        study: gives the geometry.
        pixels: by lesion number, by slice, the row-major numbers of its pixels.
    """
    by_slice: dict[int, list[tuple[int, np.ndarray]]] = {}
    for number, slices in pixels.items():
        for index, own in slices.items():
            by_slice.setdefault(index, []).append((min(number, 255), own))
    count, rows, cols = study.shape
    grid = study.grid or FileGrid((cols, rows, count), study.affine_lps(), Turn())
    shape = grid.shape
    affine = study.affine_lps() if grid.affine_lps is None else grid.affine_lps
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
        if grid.turn.axes[0] == 2 and not grid.turn.flips[0]:
            for index in range(count):
                level = _level(by_slice.get(index, []), (rows, cols))
                file.write(grid.turn.stored_level(level).tobytes("F"))
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
