"""The labels of the slices of a corrected study, in the form of converted sets."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pe_unified.converters.contract.schema import (
    ALL_LABELS,
    annotation_of_box,
    annotations_of_mask,
    exam_labels_from_masks,
)
from pe_unified.inference.lesions import Lesion
from pe_unified.review.corrected import CorrectedStudy


@dataclass(frozen=True)
class SliceLabels:
    """The labels of one slice.

    Attributes:
        annotations: without ``id`` and ``image_id``.
        known: those of :data:`~pe_unified.converters.contract.schema.ALL_LABELS` that are known.
        present: 1 if it shows an embolus, 0 if not, None if unknown.
    """

    annotations: tuple[dict[str, Any], ...]
    known: tuple[str, ...]
    present: int | None


def label_slices(corrected: CorrectedStudy, shape: tuple[int, int, int]) -> list[SliceLabels]:
    """The labels of every slice.

    Lesions that are kept without a mask are labelled by their boxes; on a slice with such a box
    all masks become boxes. A lesion with neither makes its key slice positive, and its other
    slices unknown. If the exam is indeterminate, nothing is known.

    Args:
        corrected: the study.
        shape: (slices, rows, cols).
    """
    count, *size = shape
    if corrected.verdict == "indeterminate":
        return [SliceLabels((), (), None)] * count
    masks: list[dict[int, np.ndarray]] = [{} for _ in range(count)]
    boxes: list[list[tuple[int, Any]]] = [[] for _ in range(count)]
    positive: set[int] = set()
    unknown: set[int] = set()
    for lesion in corrected.lesions:
        for index, own in lesion.pixels.items():
            masks[index][lesion.number] = own
        if lesion.pixels:
            continue
        for index, box, _ in lesion.boxes:
            boxes[index].append((lesion.number, box))
        if not lesion.boxes:
            positive.add(lesion.key_slice)
        unknown.update(_without_box(lesion))
    plane = (size[0], size[1])
    return [
        _labels_of(masks[index], boxes[index], plane, index in positive, index in unknown)
        for index in range(count)
    ]


def exam_labels(corrected: CorrectedStudy) -> dict[str, int | None]:
    """The labels of the exam that follow from the decisions; others are left out."""
    if corrected.verdict == "indeterminate":
        return {"indeterminate": 1, "negative_exam_for_pe": 0}
    labels = exam_labels_from_masks(bool(corrected.lesions))
    kinds = {corrected.labels.get(lesion.number) for lesion in corrected.lesions}
    if kinds and kinds <= {"acute", "chronic"}:
        labels["chronic_pe"] = int(kinds == {"chronic"})
        labels["acute_and_chronic_pe"] = int(len(kinds) == 2)
    return labels


def _without_box(lesion: Lesion) -> set[int]:
    """Slices within the range of a lesion without a mask for which it has no box either."""
    first, last = lesion.slices
    return set(range(first, last + 1)) - {index for index, *_ in lesion.boxes}


def _labels_of(
    masks: dict[int, np.ndarray],
    boxes: list[tuple[int, Any]],
    size: tuple[int, int],
    positive: bool,
    unknown: bool,
) -> SliceLabels:
    if unknown:
        shown = positive or bool(masks) or bool(boxes)
        return SliceLabels((), ("slice",) if shown else (), 1 if shown else None)
    level = np.zeros(size, np.int32)
    for number, own in masks.items():
        level.ravel()[own] = number
    annotations = annotations_of_mask(level, instances=True)
    if not boxes:
        return SliceLabels(tuple(annotations), ALL_LABELS, int(bool(annotations)))
    as_boxes = [
        annotation_of_box(*each["bbox"], instance_id=each["instance_id"]) for each in annotations
    ]
    for number, (x1, y1, x2, y2) in boxes:
        rows, cols = size
        left, top = max(0.0, x1), max(0.0, y1)
        width, height = min(x2, cols) - left, min(y2, rows) - top
        as_boxes.append(annotation_of_box(left, top, width, height, instance_id=number))
    return SliceLabels(tuple(as_boxes), ("slice", "boxes"), 1)
