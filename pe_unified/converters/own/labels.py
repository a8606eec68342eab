"""Combines all labels of a study: exam, slices, and contradictions between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pe_unified.converters.contract.schema import ALL_LABELS, exam_labels_from_masks
from pe_unified.converters.own.marks import SliceMarks
from pe_unified.ct.exam_labels import exam_doubts
from pe_unified.errors import listed

_NEGATIVE, _INDETERMINATE = "negative_exam_for_pe", "indeterminate"


@dataclass(frozen=True)
class SliceLabels:
    """The labels of one slice, as in an entry of ``images[]`` and its annotations."""

    pe_present: int | None
    known: list[str]
    annotations: list[dict[str, Any]]


@dataclass(frozen=True)
class StudyLabels:
    """The labels of a study.

    Attributes:
        positive: whether there is an embolus; None if unknown.
        exam: labels by name; unknown ones are None or absent.
        contradictions: in words; if there are any, the labels cannot be used.
        doubts: unusual, but may be right.
    """

    positive: bool | None
    exam: Mapping[str, int | None]
    slices: Sequence[SliceLabels]
    contradictions: Sequence[str]
    doubts: Sequence[str]

    @property
    def positive_slices(self) -> int:
        return sum(bool(each.pe_present) for each in self.slices)

    @property
    def known_slices(self) -> int:
        return sum(each.pe_present is not None for each in self.slices)


def put_together(
    count: int,
    pe: int | None,
    exam: Mapping[str, int],
    masks: Sequence[list[dict[str, Any]]] | None,
    marks: SliceMarks,
    empty: str = "the mask is empty",
) -> StudyLabels:
    """Combine all labels of a study.

    A mask shows all emboli: slices on which it is empty are negative, and so are all slices of a
    negative exam. Boxes are known on slices that have one. Other slices of a positive exam are
    unknown, and so are all slices of an exam without labels.

    Args:
        count: number of slices.
        pe: label of the exam.
        exam: labels that are given.
        masks: annotations of each slice; None without a mask.
        marks: boxes and labels of slices.
        empty: says why there is no embolus in the masks, if there is none.
    """
    wrong = []
    negative, indeterminate = exam.get(_NEGATIVE), exam.get(_INDETERMINATE)
    stated = pe
    if stated is None and negative:
        stated = 0
    elif stated is None and negative == 0 and indeterminate == 0:
        stated = 1
    if pe is not None and (negative == pe or indeterminate):
        wrong.append(
            f"pe is {pe}, yet {_NEGATIVE} is {negative} and {_INDETERMINATE} {indeterminate}"
        )
    slices = [_slice(index, stated, masks, marks) for index in range(count)]
    positives = [index for index, each in enumerate(slices) if each.pe_present]
    all_known = all(each.pe_present is not None for each in slices)
    if stated == 0 and positives:
        wrong.append(f"a negative exam with an embolus on slices {listed(positives)}")
    if stated == 1 and all_known and not positives:
        where = empty if masks is not None else "every slice is negative"
        wrong.append(f"a positive exam, yet {where}")
    wrong += _clashes(slices, marks)
    positive: bool | None = None if stated is None else bool(stated)
    if positives:
        positive = True
    elif all_known and not indeterminate:
        positive = False
    implied = {} if positive is None else exam_labels_from_masks(positive)
    whole = {**implied, **exam}
    doubts = exam_doubts(whole, len(positives), count) if all_known else []
    if masks is not None and not positives and stated is None:
        doubts.append(f"{empty}, so the exam counts as negative")
    return StudyLabels(positive, whole, slices, wrong, doubts)


def _slice(
    index: int,
    pe: int | None,
    masks: Sequence[list[dict[str, Any]]] | None,
    marks: SliceMarks,
) -> SliceLabels:
    if masks is not None:
        return SliceLabels(int(bool(masks[index])), list(ALL_LABELS), masks[index])
    boxes, label = marks.boxes.get(index, []), marks.pe.get(index)
    if boxes:
        return SliceLabels(1, ["slice", "boxes"], boxes)
    if label == 1:
        return SliceLabels(1, ["slice"], [])
    if label == 0 or pe == 0:
        return SliceLabels(0, list(ALL_LABELS), [])
    return SliceLabels(None, [], [])


def _clashes(slices: Sequence[SliceLabels], marks: SliceMarks) -> list[str]:
    """Slices whose own label contradicts the mask or the boxes."""
    found = []
    for label, what in ((0, "negative, yet have an embolus"), (1, "positive, yet have no embolus")):
        odd = [
            index
            for index, said in sorted(marks.pe.items())
            if said == label and slices[index].pe_present == 1 - label
        ]
        if odd:
            found.append(f"slices {listed(odd)}: labelled {what}")
    return found
