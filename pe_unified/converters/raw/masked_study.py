"""The plan of a patient with masks for all slices: one study, all labels known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pe_unified.converters.contract.schema import (
    ALL_LABELS,
    exam_entry,
    exam_labels_from_masks,
    rounded,
)
from pe_unified.converters.contract.slice_places import SlicePlace, place_fields, places_of
from pe_unified.converters.pipeline.plan import PatientPlan, SlicePlan, SliceSource, StudyPlan
from pe_unified.ct.stack import Stack


@dataclass(frozen=True)
class MaskedSlice:
    """A slice with its annotations.

    Attributes:
        file_index: position of the slice in the order of the raw set.
        place: position in the patient; None if the files do not give it.
    """

    source: SliceSource
    annotations: list[dict[str, Any]]
    file_index: int
    z_mm: float | None
    series_uid: str | None = None
    sop_uid: str | None = None
    place: SlicePlace | None = None


def plan_masked_study(
    patient_id: str,
    study_uid: str,
    slices: Sequence[MaskedSlice],
    spacing_mm: tuple[float | None, float | None, float | None],
    *,
    notes: Sequence[str],
    check_hu: bool,
    warnings: Sequence[str] = (),
) -> PatientPlan:
    """``slices`` from feet to head; the order gives ``slice_index`` and the PNG's name."""
    by_file_index = {item.file_index: item.annotations for item in slices}
    plans = []
    for index, item in enumerate(slices):
        image = {
            "study_uid": study_uid,
            "series_uid": item.series_uid,
            "sop_uid": item.sop_uid,
            "slice_index": index,
            "file_index": item.file_index,
            "z_mm": item.z_mm,
            "spacing_mm": rounded(spacing_mm, 6),
            **place_fields(item.place),
            "pe_present": int(bool(item.annotations)),
            "labels_known": list(ALL_LABELS),
        }
        # The annotations of this slice if the masks were in reversed raw order.
        mirrored = by_file_index[len(slices) - 1 - item.file_index]
        name = f"{index:04d}.png"
        plans.append(SlicePlan(item.source, name, image, item.annotations, mirrored))
    has_pe = any(item.annotations for item in slices)
    exam = exam_entry(study_uid, patient_id, exam_labels_from_masks(has_pe))
    return PatientPlan(
        patient_id=patient_id,
        studies=[StudyPlan(exam, plans, spacing_mm)],
        has_pe=has_pe,
        notes=list(notes),
        warnings=list(warnings),
        check_hu=check_hu,
    )


def of_stack(
    stack: Stack, annotations: Sequence[list[dict[str, Any]]], file_index: Sequence[int]
) -> list[MaskedSlice]:
    """DICOM slices in the stack's order, with annotations and file indices in that order."""
    return [
        MaskedSlice(
            source=(header.path, stack.rescale),
            annotations=found,
            file_index=k,
            z_mm=z,
            series_uid=header.series_uid or None,
            sop_uid=header.sop_uid or None,
            place=place,
        )
        for header, z, found, k, place in zip(
            stack.slices, stack.z_mm, annotations, file_index, places_of(stack), strict=True
        )
    ]
