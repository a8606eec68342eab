"""Masks and maps of a study as NIfTI, in the geometry of the input."""

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np

from pe_unified.ct.grids import Turn, turn_of
from pe_unified.ct.study import CTStudy, FileGrid
from pe_unified.errors import DataError

if TYPE_CHECKING:
    from pe_unified.inference.reading import SliceReader
    from pe_unified.inference.survey import Survey

#: From LPS to RAS, and back.
_RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_mask(path: Path, study: CTStudy, pixels: Mapping[int, Mapping[int, np.ndarray]]) -> None:
    """Write ``mask.nii.gz``: uint8, 0 is background, other values are lesion numbers.

    Written plane by plane, so the whole mask is never in memory. A study that came as one file
    keeps that file's grid and orientation; for DICOM the axes are columns, rows and slices from
    feet to head, evenly spaced. Lesions above 255 share the number 255.

    For a tilted gantry the sform is sheared, as the slices are; the qform is not, which is also
    how ITK reads the DICOM series.

    Args:
        path: ends in ``.nii.gz``.
        study: gives the geometry.
        pixels: row-major pixel indices, by lesion number, then by slice.
    """
    grid = _grid_of(study)
    voxels = _by_plane(pixels, study, grid)

    def plane_of(number: int) -> np.ndarray:
        plane = np.zeros((grid.shape[1], grid.shape[0]), np.uint8)
        for j, i, value in voxels.get(number, ()):
            plane[j, i] = value
        return plane

    _write(path, study, grid, plane_of)


def read_mask(path: Path, report: Mapping[str, Any]) -> np.ndarray:
    """Read what :func:`write_mask` wrote, in the order of the study's slices.

    Args:
        path: ``mask.nii.gz``.
        report: the content of the ``report.json`` that it belongs to.

    Returns:
        uint8 (slices, rows, cols), lesion numbers.

    Raises:
        DataError: it cannot be read, or belongs to another study.
    """
    given = report["input"]
    try:
        image = nibabel.Nifti1Image.from_filename(path)
        stored = np.asarray(image.dataobj, dtype=np.uint8)
        # For DICOM the axes are columns, rows and slices, whatever the patient's position.
        turn = Turn() if given["kind"] == "DICOM" else turn_of(_RAS_LPS @ image.affine)
    except Exception as error:  # a damaged file can fail in many ways
        raise DataError(path, "no readable mask", "analyse the study again", error) from error
    mask = turn.apply(stored) if stored.ndim == 3 else stored
    wanted = given["slices"], given["rows"], given["cols"]
    if mask.shape != wanted:
        reason = f"{mask.shape} voxels, the study has {wanted}"
        raise DataError(path, reason, "analyse the study again")
    return mask


def write_lungs(path: Path, reader: "SliceReader", survey: "Survey") -> None:
    """Write the lungs of a study: uint8, 1 in the lungs, in the geometry of :func:`write_mask`.

    Held in memory only for a file whose planes are not the slices.

    Args:
        path: ends in ``.nii.gz``.
        reader: of the study.
        survey: holds the lungs.
    """
    study = reader.study
    grid = _grid_of(study)
    wide, high = grid.shape[:2]

    def stored(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, cols = np.nonzero(survey.sharp_lungs(index, reader.hu(index), study.spacing_mm))
        return grid.turn.file_indices(np.full_like(rows, index), rows, cols, grid.shape)

    def plane_of(number: int) -> np.ndarray:
        i, j, _ = stored(grid.turn.file_slice(number, len(study)))
        plane = np.zeros((high, wide), np.uint8)
        plane[j, i] = 1
        return plane

    if grid.turn.axes[0] != 2:
        whole = np.zeros(grid.shape[::-1], np.uint8)
        for index in range(len(study)):
            i, j, k = stored(index)
            whole[k, j, i] = 1
        _write(path, study, grid, whole.__getitem__)
    else:
        _write(path, study, grid, plane_of)


def write_map(path: Path, study: CTStudy, slice_of: Callable[[int], np.ndarray]) -> None:
    """Write a map of a study: float32, axes columns, rows and slices from feet to head.

    Written slice by slice, so the whole map is never in memory.

    Args:
        path: ends in ``.nii.gz``.
        study: gives the geometry.
        slice_of: maps a slice index to float (rows, cols).
    """
    count, rows, cols = study.shape
    grid = FileGrid((cols, rows, count), study.affine_lps(), Turn())
    _write(path, study, grid, lambda index: slice_of(index).astype(np.float32), np.float32)


def _grid_of(study: CTStudy) -> FileGrid:
    count, rows, cols = study.shape
    return study.grid or FileGrid((cols, rows, count), study.affine_lps(), Turn())


def _write(
    path: Path,
    study: CTStudy,
    grid: FileGrid,
    plane_of: Callable[[int], np.ndarray],
    dtype: type = np.uint8,
) -> None:
    """Write a NIfTI file plane by plane; ``plane_of`` gives (j, i) for an index k."""
    affine = study.affine_lps() if grid.affine_lps is None else grid.affine_lps
    upright = affine if study.grid is not None else _upright(study)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(grid.shape)
    header.set_xyzt_units("mm")
    header.set_sform(_RAS_LPS @ affine, code=1)
    header.set_qform(_RAS_LPS @ upright, code=1)
    header["vox_offset"] = 352
    header["descrip"] = b"pe_unified: research software, not a medical device"
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) as file:
        file.write(header.binaryblock + b"\0" * 4)
        for number in range(grid.shape[2]):
            file.write(plane_of(number).tobytes())


def _upright(study: CTStudy) -> np.ndarray:
    """4 x 4 matrix, (col, row, slice, 1) to LPS mm, with slices stacked along their normal."""
    affine = study.affine_lps()
    affine[:3, 2] = study.direction[:, 2] * np.linalg.norm(affine[:3, 2])
    return affine


def _by_plane(
    pixels: Mapping[int, Mapping[int, np.ndarray]], study: CTStudy, grid: FileGrid
) -> dict[int, list[tuple[np.ndarray, np.ndarray, int]]]:
    """Per index k of the file: indices j and i of each lesion's voxels, and its number."""
    planes: dict[int, list[tuple[np.ndarray, np.ndarray, int]]] = {}
    for number, slices in pixels.items():
        for index, own in slices.items():
            rows, cols = np.divmod(own, study.shape[2])
            i, j, k = grid.turn.file_indices(np.full_like(rows, index), rows, cols, grid.shape)
            for plane in np.unique(k):
                here = k == plane
                planes.setdefault(int(plane), []).append((j[here], i[here], min(number, 255)))
    return planes
