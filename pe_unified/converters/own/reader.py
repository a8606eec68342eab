"""Reads one patient: opens studies, places masks, combines labels, plans slices."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.converters.contract.schema import (
    annotations_of_mask,
    exam_entry,
    folder_name,
    rounded,
)
from pe_unified.converters.contract.slice_places import SlicePlace, place_fields
from pe_unified.converters.own.labels import StudyLabels, put_together
from pe_unified.converters.own.marks import SliceMarks, marks_of, read_marks
from pe_unified.converters.own.masks import LaidMasks, lay_masks
from pe_unified.converters.own.matching import StudyPlace
from pe_unified.converters.own.tree import is_uid
from pe_unified.converters.pipeline.plan import (
    PatientPlan,
    PatientSource,
    SlicePlan,
    StudyPlan,
)
from pe_unified.ct.opening import open_into, open_slices
from pe_unified.ct.patients import SeveralStudies
from pe_unified.ct.study import CTStudy
from pe_unified.errors import DataError, listed

#: If all slices span fewer Hounsfield units, a volume is a mask.
_LEAST_SPAN_HU = 256
#: Number of unreadable files of a study that are listed.
_NAMED = 5


@dataclass
class StudyReading:
    """A study as it was read.

    Attributes:
        study: the CT, without its pixels in memory.
        labels: of exam and slices.
        masks: position of emboli; None without a mask file.
        notes, warnings, problems: see :class:`PatientPlan`.
    """

    place: StudyPlace
    study: CTStudy
    labels: StudyLabels
    masks: LaidMasks | None
    marks: SliceMarks
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def uid(self) -> str:
        """StudyInstanceUID in the set; a name if the files have none."""
        return self.study.study_uid or f"own-{self.place.name}"


@dataclass(frozen=True)
class OwnReader:
    """Reads one patient of a folder.

    Attributes:
        labels: names or numbers of the structures that are emboli; see ``choose_emboli``.
        boxes_complete: if a study has boxes, its slices without one are negative.
        check_hu: refuse masks that cannot lie on emboli.
        pictures: folder for images of masks that do not fit; None for none.
    """

    labels: tuple[str, ...] = ()
    boxes_complete: bool = False
    check_hu: bool = True
    pictures: Path | None = None
    whole_patients: bool = False

    def plan(self, source: PatientSource, scratch: Path) -> PatientPlan:
        plan = PatientPlan(source.patient_id, [], has_pe=None)
        known: list[bool | None] = []
        errors: list[DataError] = []
        for number, place in enumerate(source.place):
            try:
                reading = self.read_study(place, scratch / str(number))
            except DataError as error:
                errors.append(error)
                continue
            plan.studies.append(_study_plan(reading, number))
            known.append(reading.labels.positive if reading.labels.known_slices else None)
            name = f"study {place.name}: "
            plan.notes += [name + each for each in reading.notes]
            plan.warnings += [name + each for each in reading.warnings]
            plan.problems += [name + each for each in reading.problems]
        if not plan.studies:
            first, more = errors[0], len(errors) - 1
            also = f" (and {more} more studies of this patient, see --check)" if more else ""
            raise DataError(first.where, first.reason, first.cure + also)
        plan.problems += [f"left out: {error}" for error in errors]
        plan.has_pe = True if any(known) else (None if None in known else False)
        return plan

    def read_slice(self, source: tuple[Any, ...]) -> np.ndarray:
        where, read, index = source
        try:
            return read(index)
        except DataError as error:
            # Files of an archive are in a temporary folder, unknown to its owner.
            raise DataError(where, f"slice {index}: {error.reason}", error.cure) from error

    def read_study(self, place: StudyPlace, scratch: Path) -> StudyReading:
        """Open a study with its masks, marks and labels.

        Args:
            scratch: folder for unpacked files; created here.

        Raises:
            DataError: it cannot be opened, its mask does not fit, or its labels contradict each
                other; names the file, the study, and the cure.
        """
        if place.problem is not None:
            raise place.problem
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            return self._read_study(place, scratch)
        except DataError as error:
            if place.name in error.reason:
                raise
            reason = f"study {place.name}: {error.reason}"
            raise DataError(error.where, reason, error.cure) from error

    def _read_study(self, place: StudyPlace, scratch: Path) -> StudyReading:
        study = _open(place, scratch)
        masks = None
        if place.masks:
            packed = scratch / "masks"
            packed.mkdir(exist_ok=True)
            masks = lay_masks(place.masks, study, place.placed, self.labels, self.check_hu, packed)
            self._require_fit(place, study, masks)
            shutil.rmtree(packed)
        names = place.names | {study.study_uid.casefold()}
        lines = [mark for path in place.marks for mark in read_marks(path, self.labels)]
        marks = marks_of(lines, study, names, self.boxes_complete)
        annotations = None
        if masks is not None:
            several = np.unique(masks.values[masks.values > 0]).size > 1  # more than one embolus
            annotations = [annotations_of_mask(level, several) for level in masks.values]
        empty = masks.empty if masks else ""
        labels = put_together(len(study), place.pe, place.exam, annotations, marks, empty)
        if labels.contradictions:
            where = place.masks[0] if place.masks else place.found.path
            reason = "; ".join(labels.contradictions)
            raise DataError(where, reason, "correct the label that is wrong")
        reading = StudyReading(place, study, labels, masks, marks)
        reading.notes += [*study.notes, *(masks.notes if masks else ()), *marks.notes]
        if masks is not None and marks.boxes:
            reading.notes.append("boxes are taken from the mask; the drawn boxes are left out")
        if labels.positive is None and not labels.known_slices and not place.exam:
            reading.warnings.append("no label is known, so nothing can be learned from it")
        reading.warnings += labels.doubts
        reading.problems += [*marks.problems, *study.contradictions]
        reading.problems += [str(error) for error in study.broken[:_NAMED]]
        if study.broken[_NAMED:]:
            reading.problems.append(f"{len(study.broken) - _NAMED} more files that cannot be read")
        return reading

    def _require_fit(self, place: StudyPlace, study: CTStudy, masks: LaidMasks) -> None:
        """Refuse a mask that does not fit, and draw an image of it.

        Raises:
            DataError: says how it would fit.
        """
        picture = None
        if self.pictures is not None:
            picture = self.pictures / f"{folder_name(place.name)}.png"
            picture.unlink(missing_ok=True)
        if not masks.reasons:
            return
        said, cure, title = "; ".join(masks.reasons), "find the mask of this study", "does not fit"
        if masks.better_values is not None:
            way, cell = "as it is stored", "clear the column placed"
            if masks.better:
                way = f"if placed '{masks.better}'"
                cell = f"write {masks.better} in the column placed"
            title = f"would fit {way}"
            said = f"it {title} ({said})"
            cure = f"save the mask again on its scan, or {cell} of the table"
        if masks.values.any():  # empty if it could not be placed at all
            cure += "; if it is right as it is, write unchecked in the column placed"
        if picture is not None:
            from pe_unified.converters.own.picture import draw_misfit  # matplotlib, rarely needed

            better = masks.better_values
            draw_misfit(picture, study, masks.values, better, f"{place.name}: {title}")
            cure += f"; see {picture}"
        raise DataError(
            place.masks[0],
            f"study {place.name}: the mask does not fit the scan, {said}",
            cure,
        )


def _open(place: StudyPlace, scratch: Path) -> CTStudy:
    found, series = place.found, place.series or None
    if found.files:
        study = open_slices(found.files, found.path, series)
    else:
        unpacked = scratch / "study"
        unpacked.mkdir(exist_ok=True)
        # If an archive holds several studies, take the one whose UID is its name.
        uid = place.name if is_uid(place.name) else None
        try:
            study = open_into(found.path, unpacked, series, study_uid=uid)
        except SeveralStudies as error:
            cure = (
                "put each study into a file of its own, or name the file after the "
                f"StudyInstanceUID to take: {listed(error.names)}"
            )
            raise DataError(error.where, error.reason, cure) from error
    if not study.sop_uids and not _is_scan(study):
        reason = f"no slice spans {_LEAST_SPAN_HU} Hounsfield units, so it is not a CT"
        cure = "if it is a mask, name it in the column mask of the table, or <study>_mask"
        raise DataError(found.path, reason, cure)
    return study


def _is_scan(study: CTStudy) -> bool:
    """Whether a volume is a CT rather than a mask; slices from the middle outwards tell."""
    indices = sorted(range(len(study)), key=lambda index: abs(index - len(study) // 2))
    levels = (study.slice_hu(index) for index in indices)
    return any(int(level.max()) - int(level.min()) >= _LEAST_SPAN_HU for level in levels)


def _study_plan(reading: StudyReading, number: int) -> StudyPlan:
    study, labels = reading.study, reading.labels
    exam = exam_entry(reading.uid, reading.place.patient, labels.exam)
    places: Sequence[SlicePlace | None] = [None] * len(study)
    if study.placed:
        at = np.array([[index, 0, 0] for index in range(len(study))], dtype=np.float64)
        places = [SlicePlace.of(start, study.direction) for start in study.positions_mm(at)]
    one_each = study.sop_uids and not any(study.frames)  # frames share the UID of their file
    sops = study.sop_uids if one_each else [""] * len(study)
    unchecked = {"hu_unchecked": True} if reading.masks and reading.masks.unchecked else {}
    prefix = f"{number}-" if number else ""
    slices = []
    for index, (known, place) in enumerate(zip(labels.slices, places, strict=True)):
        image = {
            "study_uid": reading.uid,
            "series_uid": study.series_uid or None,
            "sop_uid": sops[index] or None,
            "slice_index": index,
            "z_mm": study.z_mm[index],
            "spacing_mm": rounded(study.spacing_mm, 6),
            **place_fields(place),
            "pe_present": known.pe_present,
            "labels_known": known.known,
            **unchecked,
        }
        path = study.files[index] if reading.place.found.files else reading.place.found.path
        source = (str(path), study.read, index)
        slices.append(SlicePlan(source, f"{prefix}{index:04d}.png", image, known.annotations))
    return StudyPlan(exam, slices, study.spacing_mm)
