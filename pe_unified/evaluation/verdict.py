"""The verdict on an exam: which of its findings are called, and whether it is positive.

There are two kinds of findings. A stretch covers 6 mm of the body and has the mean probability of
its slices (classification). A lesion has its own score (segmentation, detection). Each kind has a
threshold; both are chosen together on exams of the validation split. A finding that reaches its
threshold is called; an exam is positive if any finding is called. So a negative exam has no called
finding, and every positive exam shows why it is positive.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pe_unified.evaluation.exam_score import exam_probability, stretches_from
from pe_unified.evaluation.intervals import FloatArray

#: Range of the mean attenuation of a clot, HU. Acute emboli measure 33 HU with a standard deviation
#: of 15, chronic ones 87 with 30 (Wittram et al., Radiology 2005;235:1050-1054). The range is wider
#: because lung or contrast mixes into the edge of small emboli. Below it is fat or air, above it
#: contrast or bone.
CLOT_HU = (-50.0, 150.0)
#: Without a mask, at least this share of a lesion's pixels has that attenuation. The others may be
#: vessel and lung around the clot: of a mark's disc of 10 mm, a clot of 2.2 mm fills this share.
CLOT_SHARE = 0.05
#: Decimals of a score. Rounded scores are judged, so that readers get the same verdict.
DIGITS = 4


@dataclass(frozen=True)
class ExamThresholds:
    """Thresholds of findings; None if findings of this kind are never called.

    Attributes:
        stretch: threshold of the mean probability over 6 mm.
        lesion: threshold of a lesion's score.
    """

    stretch: float | None = None
    lesion: float | None = None


@dataclass(frozen=True)
class Verdict:
    """The verdict on an exam.

    Attributes:
        positive: whether any finding is called; None if no threshold is set.
        stretch_score: highest mean probability over 6 mm; None if the model does not classify.
        lesion_score: highest score of a lesion that can be a clot, 0 without one; None if the model
            does not look for lesions.
        stretches: the called stretches, (first, last) index of the given slices, inclusive.
        lesions: whether each lesion is called; None if no threshold is set.
    """

    positive: bool | None
    stretch_score: float | None
    lesion_score: float | None
    stretches: tuple[tuple[int, int], ...]
    lesions: tuple[bool | None, ...]


def as_written(score: float) -> float:
    """A score rounded as in reports."""
    return float(np.round(score, DIGITS))


def threshold_as_written(threshold: float | None) -> float | None:
    """A threshold rounded up to the decimals of a score, which calls the same scores."""
    if threshold is None:
        return None
    return math.ceil(round(threshold * 10**DIGITS, 6)) / 10**DIGITS


def score_text(score: float) -> str:
    """A score or threshold with all its decimals, so that readers get the same verdict."""
    return f"{score:.{DIGITS}f}"


def can_be_clot(mean_hu: float) -> bool:
    """Whether a mask has the attenuation of a clot."""
    return CLOT_HU[0] <= round(mean_hu, 1) <= CLOT_HU[1]


def can_hold_clot(hu: FloatArray) -> bool:
    """Whether a clot can be among these pixels of boxes or marks, HU of any shape."""
    low, high = CLOT_HU
    return hu.size > 0 and bool(((hu >= low) & (hu <= high)).mean() >= CLOT_SHARE)


def judge(
    probability: Sequence[float],
    step_mm: float,
    lesions: Sequence[tuple[float, bool]] | None,
    thresholds: ExamThresholds,
) -> Verdict:
    """The verdict on one exam.

    Args:
        probability: (slices,), in anatomical order; empty if the model does not classify.
        step_mm: distance between neighbouring slices.
        lesions: score of each, and whether it can be a clot; None if the model does not look for
            lesions.
        thresholds: see :class:`ExamThresholds`.
    """
    stretch_score = lesion_score = None
    stretches: tuple[tuple[int, int], ...] = ()
    decided = False
    if len(probability):
        stretch_score = as_written(exam_probability(probability, step_mm))
        if thresholds.stretch is not None:
            decided = True
            stretches = stretches_from(probability, step_mm, thresholds.stretch, DIGITS)
    if lesions is not None:
        possible = [score for score, can_be in lesions if can_be]
        lesion_score = as_written(max(possible, default=0.0))
        decided |= thresholds.lesion is not None
    called: list[bool | None] = []
    for score, can_be in lesions or ():
        if not can_be:
            called.append(False)
        elif thresholds.lesion is None:
            called.append(False if decided else None)
        else:
            called.append(as_written(score) >= thresholds.lesion)
    positive = bool(stretches) or any(called) if decided else None
    return Verdict(positive, stretch_score, lesion_score, stretches, tuple(called))


def choose_exam_thresholds(
    positive: Sequence[bool], verdicts: Sequence[Verdict]
) -> ExamThresholds | None:
    """The pair of thresholds whose verdicts on these exams have the best Youden index.

    Of equally good pairs the most sensitive one is taken, then the one that calls most lesions. A
    threshold is halfway between the scores next to it, rounded up to their decimals.

    Args:
        positive: (exams,), the truth.
        verdicts: (exams,); only their scores are used.

    Returns:
        None if the exams are of one class, or if no pair is better than chance. A threshold of the
        pair is None if findings of this kind should not be called.
    """
    label = np.asarray(positive, dtype=bool)
    if label.all() or not label.any():
        return None
    stretch = _column([verdict.stretch_score for verdict in verdicts])
    lesion = _column([verdict.lesion_score for verdict in verdicts])
    lesion_cuts = _cuts(lesion)
    best: tuple[float, ...] = (0.0,)
    for stretch_cut in _cuts(stretch):
        rest = ~(stretch >= stretch_cut)
        found = _called(lesion[rest & label], lesion_cuts) + np.sum(~rest & label)
        false = _called(lesion[rest & ~label], lesion_cuts) + np.sum(~rest & ~label)
        merit = np.round(found / label.sum() - false / (~label).sum(), 12)
        order = np.lexsort([-lesion_cuts, found, merit])
        top = order[-1]
        row = (merit[top], found[top], -lesion_cuts[top], -stretch_cut)
        best = max(best, tuple(float(value) for value in row))
    if best[0] <= 0:
        return None
    lesion_cut, stretch_cut = (None if np.isinf(cut) else -cut for cut in best[2:])
    return ExamThresholds(threshold_as_written(stretch_cut), threshold_as_written(lesion_cut))


def _column(scores: Sequence[float | None]) -> FloatArray:
    return np.array([np.nan if score is None else score for score in scores], dtype=np.float64)


def _cuts(scores: FloatArray) -> FloatArray:
    """Thresholds that separate the scores differently, and infinity; none calls every exam."""
    values = np.unique(scores[~np.isnan(scores)])
    above = np.append(values[1:], max(1.0, values[-1])) if len(values) else values
    cuts = (values + above) / 2
    return np.append(cuts[cuts > values], np.inf)


def _called(scores: FloatArray, cuts: FloatArray) -> FloatArray:
    """(cuts,): number of scores at or above each threshold; NaN is never called."""
    known = np.sort(scores[~np.isnan(scores)])
    return (len(known) - np.searchsorted(known, cuts, side="left")).astype(np.float64)
