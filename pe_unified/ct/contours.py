"""Converts contours of a DICOM RTSTRUCT to masks on the slices of a study."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from skimage.draw import polygon

from pe_unified.ct.dicom_file import open_dicom
from pe_unified.ct.segments import choose_emboli
from pe_unified.ct.study import CTStudy
from pe_unified.errors import COPY_AGAIN, DataError

#: Heights that differ by at most this are one plane, mm.
_SAME_PLANE = 0.05
#: Maximum deviation of a flat contour's points along the normal, as a share of a slice.
_FLAT = 0.5
#: Maximum distance between a plane and its slice, as a share of a slice.
_ON_SLICE = 0.1

#: Contours of one plane: points (n, 3), LPS mm.
Contours = list[np.ndarray]


def read_contours(
    path: Path, study: CTStudy, asked: Sequence[str] = ()
) -> tuple[np.ndarray, list[str]]:
    """The emboli of an RTSTRUCT.

    A pixel belongs to a structure if its centre is inside an odd number of its contours, or on
    one; so holes stay holes. A slice takes the contours of the nearest plane within half a slice
    or, if they were not drawn on slices of the study, within half the distance between planes.

    Args:
        path: the file.
        study: the study on which it was drawn, or one of the same patient in the same place.
        asked: names of the structures that are emboli.

    Returns:
        uint16 (slices, rows, cols), the number of the structure, 0 elsewhere; and notes.

    Raises:
        DataError: unreadable, contours that are not closed or not parallel to the slices, or no
            structure that is an embolus.
    """
    if not study.placed:
        cure = "export the study as DICOM, or the mask as a volume in its grid"
        raise DataError(path, "contours in mm, but the study has no position", cure)
    dataset = open_dicom(path)
    try:
        names = {int(s.ROINumber): str(s.ROIName) for s in dataset.StructureSetROISequence}
        emboli = choose_emboli(names, asked, path)
        drawn = {number: _contours(dataset, number, path) for number in emboli}
        drawn_on = _drawn_on(dataset)
    except DataError:
        raise
    except Exception as error:  # a damaged file may lack anything
        raise DataError(path, "no readable RTSTRUCT", COPY_AGAIN, error) from error
    normal = study.direction[:, 2]
    starts = study.positions_mm(np.array([[k, 0, 0] for k in range(len(study))], dtype=float))
    heights = starts @ normal
    step = float(np.median(np.diff(heights))) if len(heights) > 1 else study.known_spacing()[2]
    contours = [(number, points) for number in emboli for points in drawn[number]]
    found = np.zeros(study.shape, np.uint16)
    if not contours:
        return found, []
    for number, points in contours:
        if np.ptp(points @ normal) > _FLAT * step:
            reason = f"a contour of '{names[number]}' does not lie in the planes of the slices"
            raise DataError(path, reason, "export the structure as a mask instead")
    along = np.array([float((points @ normal).mean()) for _, points in contours])
    plane_of, planes = _planes(along)
    drawn_here = bool(drawn_on) and drawn_on <= set(study.sop_uids)
    thick = step if drawn_here or len(planes) < 2 else float(np.diff(planes).min())
    reach = max(step, thick) / 2 + _SAME_PLANE
    for index, height in enumerate(heights):
        nearest = int(np.abs(planes - height).argmin())
        if abs(planes[nearest] - height) > reach:
            continue
        own = [contours[each] for each in np.flatnonzero(plane_of == nearest)]
        for number in reversed(emboli):  # where structures overlap, the first one wins
            of_structure = [points for other, points in own if other == number]
            found[index][_filled(of_structure, study, starts[index])] = number
    return found, _notes(np.abs(planes[:, None] - heights).min(axis=1), thick, step)


def _planes(along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The plane number of each contour, and the ascending heights of the planes, mm."""
    order = np.argsort(along)
    numbers = np.empty(len(along), dtype=int)
    numbers[order] = np.cumsum(np.diff(along[order], prepend=along[order[0]]) > _SAME_PLANE)
    planes = [along[numbers == number].mean() for number in range(numbers.max() + 1)]
    return numbers, np.array(planes)


def _notes(off: np.ndarray, thick: float, step: float) -> list[str]:
    if thick > 1.5 * step:
        return [f"contours every {thick:.3g} mm, slices every {step:.3g} mm: the nearest ones"]
    if off.max() > _ON_SLICE * step:
        return ["contours lie between the slices, which take the nearest ones"]
    return []


def _contours(dataset: pydicom.Dataset, number: int, path: Path) -> Contours:
    """All contours of a structure."""
    found = []
    for structure in dataset.get("ROIContourSequence") or ():
        if int(structure.ReferencedROINumber) != number:
            continue
        for contour in structure.get("ContourSequence") or ():
            kind = str(contour.get("ContourGeometricType", "CLOSED_PLANAR"))
            if not kind.startswith("CLOSED"):
                reason = f"a contour of type {kind}, which encloses nothing"
                raise DataError(path, reason, "close the contours, or export a mask")
            found.append(np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3))
    return found


def _drawn_on(dataset: pydicom.Dataset) -> set[str]:
    """UIDs of the slices on which the contours were drawn; empty if not stated."""
    return {
        str(image.ReferencedSOPInstanceUID)
        for structure in dataset.get("ROIContourSequence") or ()
        for contour in structure.get("ContourSequence") or ()
        for image in contour.get("ContourImageSequence") or ()
    }


def _filled(contours: Contours, study: CTStudy, start: np.ndarray) -> np.ndarray:
    """The pixels of a slice inside contours: bool (rows, cols); ``start`` is its first pixel."""
    row_mm, col_mm, _ = study.known_spacing()
    mask = np.zeros(study.shape[1:], dtype=bool)
    for points in contours:
        cols, rows = ((points - start) @ study.direction[:, :2]).T
        mask[polygon(rows / row_mm, cols / col_mm, mask.shape)] ^= True
    return mask
