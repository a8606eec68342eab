"""Places the masks of a study on its slices, and checks them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pe_unified.converters.own.fit import Fit, fit_of
from pe_unified.converters.own.placing import (
    Placing,
    laid_by_headers,
    laid_by_index,
    united,
)
from pe_unified.ct.contours import read_contours
from pe_unified.ct.dicom_file import open_dicom
from pe_unified.ct.mask_volumes import MaskVolume
from pe_unified.ct.segments import is_dicom_mask, read_emboli
from pe_unified.ct.study import CTStudy
from pe_unified.errors import DataError, listed

_ANOTHER = "find the mask of this study, or save it with the header of its scan"


@dataclass(frozen=True)
class LaidMasks:
    """The masks of a study.

    Attributes:
        values: uint16 (slices, rows, cols), 0 outside emboli.
        notes: on how they were placed.
        reasons: why their position is wrong; empty if it can be right.
        better: the placing that would fit, in the words of the table; empty for as it is stored.
        better_values: ``values`` placed that way; None if no placing is known to fit.
        unchecked: the user states that they are right, whatever the HU are.
        empty: says why there is no embolus, if there is none.
    """

    values: np.ndarray
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    better: str = ""
    better_values: np.ndarray | None = None
    unchecked: bool = False
    empty: str = "the mask is empty"


#: The content of a mask file; contours are already on the slices.
_Read = MaskVolume | np.ndarray


def lay_masks(
    paths: Sequence[Path],
    study: CTStudy,
    placed: str,
    labels: Sequence[str],
    check_hu: bool,
    scratch: Path,
) -> LaidMasks:
    """Combine all masks of a study and place them on its slices.

    Args:
        paths: files of masks.
        placed: their placing, in the words of the table (see ``Placing``).
        labels: names or numbers of the structures that are emboli.
        check_hu: check whether the position can be right.
        scratch: folder for unpacked files.

    Raises:
        DataError: a file cannot be used, or cannot be placed on the study at all.
    """
    asked = Placing.of_words(placed, str(paths[0]))
    notes: list[str] = []
    read = [
        _read(path, study, labels, scratch / str(number), notes)
        for number, path in enumerate(paths)
    ]
    if not asked.by_index and not _are_placed(read, study):
        asked = replace(asked, by_index=True)
        notes.append("the headers do not give the positions of mask or scan: laid voxel on voxel")
    better: tuple[str, np.ndarray | None] | None
    try:
        values = asked.turned(_laid(read, study, asked.by_index, paths, notes))
    except DataError as error:
        better = _other_way(read, study, not asked.by_index, paths)
        if better is None:
            raise
        nothing = np.zeros(study.shape, np.uint16)
        return LaidMasks(nothing, tuple(notes), (error.reason,), *better)
    fit = fit_of(values, study) if check_hu and not asked.unchecked else Fit()
    if fit.better is not None:
        better = asked.mirrored(fit.better).words, fit.better.turned(values)
    else:
        better = _other_way(read, study, not asked.by_index, paths) if fit.reasons else None
    words, fitting = better or ("", None)
    others = {number for each in read if isinstance(each, MaskVolume) for number in each.others}
    wanted = " or ".join(filter(str.isdecimal, labels))
    holds = f"has {listed(sorted(others))}, but no {wanted}" if others else "is empty"
    return LaidMasks(
        values, tuple(notes), fit.reasons, words, fitting, asked.unchecked, f"the mask {holds}"
    )


def _read(
    path: Path, study: CTStudy, labels: Sequence[str], scratch: Path, notes: list[str]
) -> _Read:
    if is_dicom_mask(path):
        dataset = open_dicom(path, stop_before_pixels=True)
        drawn_on = str(dataset.get("StudyInstanceUID") or "")
        if study.study_uid and drawn_on not in ("", study.study_uid):
            notes.append(f"the mask says that it was drawn on another study, {drawn_on}")
        if dataset.get("Modality") == "RTSTRUCT":
            drawn, found = read_contours(path, study, labels)
            notes += found
            return drawn
    scratch.mkdir()  # several folders may hold files of the same name
    return read_emboli(path, scratch, labels)


def _are_placed(read: Sequence[_Read], study: CTStudy) -> bool:
    volumes = [each for each in read if isinstance(each, MaskVolume)]
    return not volumes or (study.placed and all(each.placed for each in volumes))


def _laid(
    read: Sequence[_Read], study: CTStudy, by_index: bool, paths: Sequence[Path], notes: list[str]
) -> np.ndarray:
    laid = []
    for each, path in zip(read, paths, strict=True):
        if isinstance(each, np.ndarray):
            laid.append(each)
        elif by_index:
            values = laid_by_index(each, study)
            if values is None:
                count, rows, cols = study.shape
                reason = f"a mask of {each.array.shape} voxels, the scan has {(cols, rows, count)}"
                raise DataError(path, reason, _ANOTHER)
            laid.append(values)
        else:
            values, said = laid_by_headers(each, study)
            laid.append(values)
            notes += said
    return united(laid)


def _other_way(
    read: Sequence[_Read], study: CTStudy, by_index: bool, paths: Sequence[Path]
) -> tuple[str, np.ndarray] | None:
    """The masks placed by index instead of by headers, or the reverse, if that fits."""
    if not by_index and not _are_placed(read, study):
        return None
    try:
        values = _laid(read, study, by_index, paths, [])
    except DataError:
        return None
    if not values.any():
        return None
    fit = fit_of(values, study)
    if not fit.reasons:
        return Placing(by_index).words, values
    if fit.better is not None:
        return Placing(by_index, fit.better.flips).words, fit.better.turned(values)
    return None
