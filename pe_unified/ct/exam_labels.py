"""Labels of a whole study in the terms of RSNA-STR PE, and checks whether they can be true."""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

#: The labels in the order of ``train.csv``.
EXAM_LABELS = (
    "negative_exam_for_pe",
    "qa_motion",
    "qa_contrast",
    "flow_artifact",
    "rv_lv_ratio_gte_1",
    "rv_lv_ratio_lt_1",
    "leftsided_pe",
    "chronic_pe",
    "true_filling_defect_not_pe",
    "rightsided_pe",
    "acute_and_chronic_pe",
    "central_pe",
    "indeterminate",
)
#: Weight of each exam label in the loss of the RSNA-STR PE challenge; they add up to 1.
EXAM_WEIGHTS: Mapping[str, float] = {
    "negative_exam_for_pe": 0.0736196319,
    "indeterminate": 0.09202453988,
    "chronic_pe": 0.1042944785,
    "acute_and_chronic_pe": 0.1042944785,
    "central_pe": 0.1877300613,
    "leftsided_pe": 0.06257668712,
    "rightsided_pe": 0.06257668712,
    "rv_lv_ratio_gte_1": 0.2346625767,
    "rv_lv_ratio_lt_1": 0.0782208589,
}
#: Answers of an exam model, in this order: an exam is positive if it is neither negative nor
#: indeterminate, and indeterminate ones are neither positive nor negative.
EXAM_TARGETS = ("positive_exam_for_pe", *EXAM_WEIGHTS)
#: Weight of a slice in that loss, times the share of positive slices in its exam.
IMAGE_WEIGHT = 0.07361963
#: Labels that describe the study, not the embolism.
INFORMATIONAL = ("qa_motion", "qa_contrast", "flow_artifact", "true_filling_defect_not_pe")

_RATIOS = ("rv_lv_ratio_gte_1", "rv_lv_ratio_lt_1")
_PLACES = ("leftsided_pe", "rightsided_pe", "central_pe")
_CHRONIC = ("chronic_pe", "acute_and_chronic_pe")


def exam_targets(
    labels: Mapping[str, int | None],
    indeterminate: Literal["unknown", "positive"] = "unknown",
) -> list[float]:
    """The labels of an exam as training targets: 0, 1 or NaN if unknown.

    An exam is positive if it is neither negative nor indeterminate. An indeterminate exam
    cannot be read, so whether it is positive is unknown.

    Args:
        labels: 1, 0 or None by the names of ``EXAM_LABELS``; absent ones are unknown.
        indeterminate: target for such exams; with "positive" every exam that is not negative
            counts as positive, as in Hu et al. (npj Digit Med 2025,
            doi 10.1038/s41746-025-01594-2).

    Returns:
        Ten values in the order of ``EXAM_TARGETS``.
    """
    if indeterminate not in ("unknown", "positive"):
        raise ValueError(f"an indeterminate exam is 'unknown' or 'positive', got '{indeterminate}'")
    values = [labels.get(name) for name in EXAM_TARGETS[1:]]
    negative, unreadable = values[:2]
    positive = None if negative is None else 1 - negative
    if indeterminate == "unknown" and (unreadable or (positive and unreadable is None)):
        positive = None
    return [math.nan if value is None else float(value) for value in (positive, *values)]


def with_sides_exchanged(values: np.ndarray) -> np.ndarray:
    """A copy in which left and right are exchanged, as in a mirrored image.

    Args:
        values: (10, ...), in the order of ``EXAM_TARGETS``.
    """
    left, right = EXAM_TARGETS.index("leftsided_pe"), EXAM_TARGETS.index("rightsided_pe")
    exchanged = values.copy()
    exchanged[[left, right]] = values[[right, left]]
    return exchanged


def exam_doubts(labels: Mapping[str, int | None], positives: int, slices: int) -> list[str]:
    """The rules of RSNA-STR PE that an exam breaks, in words, as far as its labels are known.

    Negative exams with positive slices are not checked here, since these are errors, not doubts.

    Args:
        labels: 1, 0 or None by the names of ``EXAM_LABELS``.
        positives: number of slices with an embolus, of all ``slices`` of the exam.
    """
    negative, indeterminate = labels.get("negative_exam_for_pe"), labels.get("indeterminate")
    if not positives:
        return _doubts_without_embolus(labels, negative, indeterminate, slices)
    if negative:
        return []
    found = []
    if positives == slices:
        found.append(f"all of its {slices} slices are positive")
    if indeterminate:
        found.append(f"indeterminate, yet {positives} slices are positive")
    ratios, places, chronic = (
        [labels.get(name) for name in names] for names in (_RATIOS, _PLACES, _CHRONIC)
    )
    if None not in ratios and sum(filter(None, ratios)) != 1:
        found.append(f"{'both' if all(ratios) else 'none'} of {' and '.join(_RATIOS)}")
    if None not in places and not any(places):
        found.append(f"none of {', '.join(_PLACES)}")
    if all(chronic):
        found.append(f"both of {' and '.join(_CHRONIC)}")
    return found


def _doubts_without_embolus(
    labels: Mapping[str, int | None],
    negative: int | None,
    indeterminate: int | None,
    slices: int,
) -> list[str]:
    if negative is None or indeterminate is None:
        return []
    if not negative and not indeterminate:
        return [f"positive for PE, yet none of its {slices} slices is"]
    if negative and indeterminate:
        return ["both negative and indeterminate"]
    aside = ("negative_exam_for_pe", "indeterminate", *INFORMATIONAL)
    on = [name for name in EXAM_LABELS if labels.get(name) and name not in aside]
    kind = "negative" if negative else "indeterminate"
    return [f"{kind}, yet labelled {', '.join(on)}"] if on else []
