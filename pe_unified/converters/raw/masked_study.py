"""The plan of a patient with masks for all slices: one study, all labels known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pe_unified.converters.contract.schema import (
    ALL_LABELS,
    exam_entry,
    exam_labels_from_masks,
    rounded,
)
from pe_unified.converters.pipeline.plan import PatientPlan, SlicePlan, SliceSource, StudyPlan
from pe_unified.ct.grids import Turn, placement_of
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
    place: "SlicePlace | None" = None


@dataclass(frozen=True)
class SlicePlace:
    """Position of a slice in the patient, LPS.

    Attributes:
        position_mm: of the centre of its first pixel.
        orientation: unit vectors along the columns and down the rows, six numbers.
    """

    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]

    @classmethod
    def of(cls, position_mm: np.ndarray, direction: np.ndarray) -> "SlicePlace":
        """``direction``: 3 x 3, whose first two columns are the unit vectors."""
        along = (*direction[:, 0].tolist(), *direction[:, 1].tolist())
        return cls(tuple(position_mm.tolist()), along)


def place_fields(place: SlicePlace | None) -> dict[str, list[float | None] | None]:
    """The fields of ``images[]`` for a position; null if it is not known."""
    return {
        "position_mm": rounded(place.position_mm) if place else None,
        "orientation": rounded(place.orientation, 6) if place else None,
    }


def places_of(stack: Stack) -> Sequence[SlicePlace | None]:
    """The position of each slice of a stack; None if the headers do not give it."""
    if not stack.placed or stack.places_mm is None:
        return [None] * len(stack.slices)
    return [SlicePlace.of(place, stack.direction) for place in stack.places_mm]


def heights_and_places(
    affine: np.ndarray | None, turn: Turn, shape: tuple[int, ...]
) -> tuple[
    list[float | None], list[SlicePlace | None], tuple[float | None, float | None, float | None]
]:
    """z and place of each slice of a volume file, and the spacing (row, col, slice), mm.

    Args:
        affine: 4 x 4, (i, j, k, 1) to LPS mm; None if the file does not give it.
        turn: brings its array into slices, rows and columns.
        shape: of the array, (i, j, k).
    """
    count = shape[turn.axes[0]]
    if affine is None:
        return [None] * count, [None] * count, (None, None, None)
    placed = placement_of(affine, turn, shape)
    start = float(np.dot(placed.origin_mm, placed.direction[:, 2]))
    step = placed.spacing_mm[2]
    origin, between = np.array(placed.origin_mm), np.array(placed.step_mm)
    places = [SlicePlace.of(origin + between * k, placed.direction) for k in range(count)]
    return [round(start + step * k, 4) for k in range(count)], [*places], placed.spacing_mm


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
