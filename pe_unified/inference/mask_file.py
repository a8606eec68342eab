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

    Written plane by plane, so that the mask is never whole in memory. A study that came as one
    file keeps that file's grid and orientation; for DICOM the axes are columns, rows and slices
    from feet to head, evenly spaced. Lesions above 255 share the number 255.

    The sform of a series with a tilted gantry is sheared, as the slices lie; its qform stands
    upright, as ITK reads the series itself.

    Args:
        path: ends in ``.nii.gz``.
        study: gives the geometry.
        pixels: by lesion number, by slice, the row-major numbers of its pixels.
    """
    count, rows, cols = study.shape
    grid = study.grid or FileGrid((cols, rows, count), study.affine_lps(), Turn())
    affine = study.affine_lps() if grid.affine_lps is None else grid.affine_lps
    upright = affine if study.grid is not None else _upright(study)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(grid.shape)
    header.set_xyzt_units("mm")
    header.set_sform(_LPS_TO_RAS @ affine, code=1)
    header.set_qform(_LPS_TO_RAS @ upright, code=1)
    header["vox_offset"] = 352
    header["descrip"] = b"pe_unified: research software, not a medical device"
    voxels = _by_plane(pixels, study, grid)
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) as file:
        file.write(header.binaryblock + b"\0" * 4)
        for number in range(grid.shape[2]):
            plane = np.zeros((grid.shape[1], grid.shape[0]), np.uint8)
            for j, i, value in voxels.get(number, ()):
                plane[j, i] = value
            file.write(plane.tobytes())


def _upright(study: CTStudy) -> np.ndarray:
    """4 x 4, (col, row, slice, 1) to LPS mm, with slices stacked along their normal."""
    affine = study.affine_lps()
    affine[:3, 2] = study.direction[:, 2] * np.linalg.norm(affine[:3, 2])
    return affine


def _by_plane(
    pixels: Mapping[int, Mapping[int, np.ndarray]], study: CTStudy, grid: FileGrid
) -> dict[int, list[tuple[np.ndarray, np.ndarray, int]]]:
    """By index k of the file: indices j and i of a lesion's voxels there, and its number."""
    planes: dict[int, list[tuple[np.ndarray, np.ndarray, int]]] = {}
    for number, slices in pixels.items():
        for index, own in slices.items():
            rows, cols = np.divmod(own, study.shape[2])
            i, j, k = grid.turn.file_indices(np.full_like(rows, index), rows, cols, grid.shape)
            for plane in np.unique(k):
                here = k == plane
                planes.setdefault(int(plane), []).append((j[here], i[here], min(number, 255)))
    return planes
