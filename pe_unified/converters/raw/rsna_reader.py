"""Reads a patient of RSNA-STR PE: files joined with rows of the csv, DICOM or JPEG-256."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.converters.contract.schema import (
    ALL_LABELS,
    annotation_of_box,
    box_within,
    exam_entry,
    rounded,
)
from pe_unified.converters.contract.slice_places import SlicePlace, place_fields, places_of
from pe_unified.converters.pipeline.plan import PatientPlan, PatientSource, SlicePlan, StudyPlan
from pe_unified.converters.pipeline.raw_folders import contents
from pe_unified.converters.raw.rsna_jpeg import read_jpeg_hu
from pe_unified.converters.raw.rsna_table import BoxRow, SliceRow
from pe_unified.ct.companions import is_companion
from pe_unified.ct.dicom import read_hu
from pe_unified.ct.exam_labels import exam_doubts
from pe_unified.ct.headers import SliceHeader, list_files, natural_key, scan_files
from pe_unified.ct.stack import Stack, stack_slices
from pe_unified.errors import DataError, listed

#: Number of names listed in a problem; the rest is only counted.
_NAMED = 10
#: Rows and columns of the set's DICOM slices, on which boxes are given, and of its JPEG edition.
DICOM_SIZE, JPEG_SIZE = 512, 256
JPEG_NAME = re.compile(r"^(\d+)_(.+)\.jpe?g$", re.IGNORECASE)


@dataclass(frozen=True)
class StudyPlace:
    """One study in the csv and on disk.

    Attributes:
        folder: ``train/<StudyInstanceUID>``.
        rows: all its slices in the csv.
        chosen: SOP instance UIDs to convert; None for all.
        boxes: from Augmented RSPECT.
        labels: of the exam.
        problems: found in the csv.
    """

    study_uid: str
    folder: Path
    rows: Sequence[SliceRow]
    chosen: frozenset[str] | None
    boxes: Sequence[BoxRow]
    labels: dict[str, int | None]
    problems: Sequence[str] = ()


@dataclass
class _Series:
    """The files of a series in ascending order, by SOP instance UID.

    ``sizes``: (rows, cols) per file; ``box_scale``: pixels of the file per pixel of the DICOM
    slice in which boxes are given.
    """

    order: list[tuple[str, Path]]
    sizes: list[tuple[int, int]] = field(default_factory=list)
    box_scale: float = 1.0
    stack: Stack | None = None
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RsnaReader:
    """Reads one patient. ``edition``: ``dicom`` or ``jpeg256``."""

    edition: str = "dicom"
    whole_patients: bool = False

    def plan(self, source: PatientSource, scratch: Path) -> PatientPlan:
        plan = PatientPlan(source.patient_id, [], has_pe=False)
        offset = 0
        for place in source.place:
            offset = self._plan_study(place, plan, offset)
            plan.has_pe = plan.has_pe or any(row.label for row in place.rows)
        if not any(study.slices for study in plan.studies) and plan.problems:
            raise DataError(source.patient_id, plan.problems[0], "see the layout in --help")
        return plan

    def read_slice(self, source: tuple[Any, ...]) -> np.ndarray:
        path, rescale = source
        return read_jpeg_hu(path) if self.edition == "jpeg256" else read_hu(path, rescale=rescale)

    def _plan_study(self, place: StudyPlace, plan: PatientPlan, offset: int) -> int:
        """Add a study to the plan; returns the number that follows its last slice."""
        plan.problems += place.problems
        positives = sum(row.label for row in place.rows)
        if positives and place.labels.get("negative_exam_for_pe") == 1:
            plan.problems.append(
                f"study {place.study_uid}: a negative exam with {positives} positive slices; "
                "correct the csv"
            )
        doubts = exam_doubts(place.labels, positives, len(place.rows))
        plan.warnings += [f"study {place.study_uid}: {doubt}" for doubt in doubts]
        by_series: dict[str, list[SliceRow]] = {}
        for row in place.rows:
            by_series.setdefault(row.series_uid, []).append(row)
        boxes: dict[str, list[BoxRow]] = {}
        for box in place.boxes:
            boxes.setdefault(box.sop_uid, []).append(box)
        exam: dict[str, Any] | None
        exam = exam_entry(place.study_uid, plan.patient_id, place.labels)
        for series_uid, rows in by_series.items():
            series = self._series(place.folder / series_uid)
            plan.problems += series.problems
            plan.notes += series.stack.notes() if series.stack and not series.problems else []
            self._compare(place, series, rows, plan)
            slices = self._slices(place, series_uid, series, rows, boxes, offset, plan.problems)
            plan.studies.append(StudyPlan(exam, slices, _spacing(series.stack, slices)))
            exam = None
            offset += len(series.order)
        _note_other_series(place, by_series, plan)
        lost = sorted(boxes.keys() - {row.sop_uid for row in place.rows})
        if lost:
            count = sum(len(boxes[sop]) for sop in lost)
            plan.problems.append(
                f"study {place.study_uid}: {count} boxes lie on slices that the csv does not list: "
                f"{_names(lost)}; complete the csv or remove the boxes"
            )
        return offset

    def _series(self, folder: Path) -> _Series:
        if self.edition == "jpeg256":
            return _jpeg_series(folder)
        return _dicom_series(folder)

    def _compare(
        self, place: StudyPlace, series: _Series, rows: list[SliceRow], plan: PatientPlan
    ) -> None:
        """Report rows without a file and files without a row."""
        files = {sop for sop, _ in series.order}
        wanted = [
            row.sop_uid for row in rows if place.chosen is None or row.sop_uid in place.chosen
        ]
        missing = [sop for sop in wanted if sop not in files]
        if missing:
            plan.problems.append(
                f"study {place.study_uid}: no file for {_names(missing)} of the csv; complete the "
                "download or remove the rows"
            )
        if place.chosen is None:
            unlisted = sorted(files - {row.sop_uid for row in rows})
            if unlisted:
                plan.problems.append(
                    f"study {place.study_uid}: no row in the csv for {_names(unlisted)}, converted "
                    "with unknown label; complete the csv or remove the files"
                )

    def _slices(
        self,
        place: StudyPlace,
        series_uid: str,
        series: _Series,
        rows: list[SliceRow],
        boxes: dict[str, list[BoxRow]],
        offset: int,
        problems: list[str],
    ) -> list[SlicePlan]:
        labels = {row.sop_uid: row.label for row in rows}
        z: Sequence[float | None] = (
            series.stack.z_mm if series.stack else [None] * len(series.order)
        )
        places: Sequence[SlicePlace | None] = (
            places_of(series.stack) if series.stack else [None] * len(series.order)
        )
        spacing = rounded(series.stack.spacing_mm, 6) if series.stack else [None, None, None]
        slices = []
        for index, (sop, path) in enumerate(series.order):
            if place.chosen is not None and sop not in place.chosen:
                continue
            image: dict[str, Any] = {
                "study_uid": place.study_uid,
                "series_uid": series_uid,
                "sop_uid": sop,
                "slice_index": index,
                "z_mm": z[index],
                "spacing_mm": spacing,
                **place_fields(places[index]),
            }
            annotations = []
            for box in boxes.get(sop, ()):
                annotation, fault = _place_box(box, series.sizes[index], series.box_scale)
                if fault:
                    problems.append(f"study {place.study_uid}, slice {sop}: {fault}")
                if annotation is not None:
                    annotations.append(annotation)
            present, known = _labels(labels.get(sop), bool(annotations))
            image["pe_present"], image["labels_known"] = present, known
            name = f"{offset + index:04d}.png"
            source = (path, series.stack.rescale if series.stack else None)
            slices.append(SlicePlan(source, name, image, annotations))
        return slices


def _labels(label: int | None, has_boxes: bool) -> tuple[int | None, list[str]]:
    """``pe_present`` and ``labels_known``. A negative slice has neither boxes nor masks; the
    label of a negative slice that has boxes is unknown."""
    if has_boxes:
        return (1, ["slice", "boxes"]) if label else (None, ["boxes"])
    if label is None:
        return None, []
    return (1, ["slice"]) if label else (0, list(ALL_LABELS))


def _place_box(
    box: BoxRow, size: tuple[int, int], scale: float
) -> tuple[dict[str, Any] | None, str]:
    """The annotation of a box in a slice of (rows, cols), and what is wrong with it."""
    rows, cols = size
    drawn = tuple(value * scale for value in (box.x, box.y, box.width, box.height))
    within = box_within(drawn, size)
    fault = ""
    if within is None or not np.allclose(within, drawn, rtol=0, atol=1e-9):
        fault = (
            f"the box {[box.x, box.y, box.width, box.height]} leaves the slice of "
            f"{rows} x {cols} pixels and {'was cut' if within else 'lies outside it'}; check the "
            "boxes' file"
        )
    if within is None:
        return None, fault
    return annotation_of_box(*within, artery=box.artery), fault


def _dicom_series(folder: Path) -> _Series:
    if not folder.is_dir():
        return _Series([], problems=[f"{folder}: no such series folder; complete the download"])
    scan = scan_files(list_files(folder), many_in_one=False)
    problems = [str(error) for error in scan.broken]
    slices = []
    for header in scan.headers:
        if header.modality not in ("", "CT"):
            problems.append(f"{header.path}: modality {header.modality}, not CT; remove the file")
        else:
            slices.append(header)
    if not slices:
        return _Series([], problems=problems or [f"{folder}: no slices; complete the download"])
    stack = stack_slices(slices)
    return _Series(
        order=[(_sop(header), header.path) for header in stack.slices],
        sizes=[(header.rows, header.cols) for header in stack.slices],
        stack=stack,
        problems=problems,
    )


def _sop(header: SliceHeader) -> str:
    """The UID used in the csv: the file name, which anonymisation cannot have emptied."""
    name = header.path.name
    return name[:-4] if name.lower().endswith(".dcm") else name


def _jpeg_series(folder: Path) -> _Series:
    if not folder.is_dir():
        return _Series([], problems=[f"{folder}: no such series folder; complete the download"])
    found: dict[str, tuple[int, Path]] = {}
    problems = []
    for path in sorted(contents(folder), key=lambda path: natural_key(path.name)):
        match = JPEG_NAME.match(path.name)
        if match and match[2] in found:
            twin = found[match[2]][1].name
            problems.append(f"{path}: the same slice as {twin}, left out; keep one of them")
        elif match:
            found[match[2]] = (int(match[1]), path)
        elif not is_companion(path) or path.suffix.lower() in (".jpg", ".jpeg"):
            problems.append(f"{path}: not named NNN_<SOPInstanceUID>.jpg; restore the name")
    order = sorted((number, sop, path) for sop, (number, path) in found.items())
    return _Series(
        order=[(sop, path) for _, sop, path in order],
        sizes=[(JPEG_SIZE, JPEG_SIZE)] * len(order),
        box_scale=JPEG_SIZE / DICOM_SIZE,
        problems=problems,
    )


def _note_other_series(place: StudyPlace, known: dict[str, Any], plan: PatientPlan) -> None:
    if not place.folder.is_dir():
        return
    others = sorted(path.name for path in place.folder.iterdir() if path.is_dir())
    others = [name for name in others if name not in known and not name.startswith(".")]
    if others:
        plan.notes.append(f"left out series without a row in the csv: {_names(others)}")


def _spacing(
    stack: Stack | None, slices: Sequence[SlicePlan]
) -> tuple[float | None, float | None, float | None]:
    """Spacing of the planned slices; for a subset, the mean gap between neighbours."""
    if stack is None:
        return None, None, None
    row, col, step = stack.spacing_mm
    heights = [item.image["z_mm"] for item in slices if item.image["z_mm"] is not None]
    if len(heights) > 1 and len(slices) < len(stack.slices):
        step = (max(heights) - min(heights)) / (len(heights) - 1) or step
    return row, col, step


def _names(names: Sequence[str]) -> str:
    return f"{len(names)} ({listed(names, _NAMED)})"
