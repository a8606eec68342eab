"""One verdict on an exam: what of its findings is called, and with it whether it is positive.

There are two kinds of findings. A stretch is the body over 6 mm, with the mean probability of its
slices (classification). A lesion has a score of its own (segmentation, detection). Each kind has a
threshold, and both are chosen together, on whole exams of the validation split. A finding from its
threshold on is called; an exam is positive where anything is called. So a negative exam holds no
called finding, and every positive one says what it is called for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pe_unified.evaluation.exam_score import exam_probability, stretches_from
from pe_unified.evaluation.intervals import FloatArray

#: What the mean attenuation of a clot may be, HU. Acute emboli measure 33 HU with a standard
#: deviation of 15, chronic ones 87 with 30 (Wittram et al., Radiology 2005;235:1050-1054); the
#: rest is left for lung or contrast that mixes into the edge of a small one. Below lies fat or air,
#: above contrast or bone.
CLOT_HU = (-50.0, 150.0)
#: Digits of a score. It is judged as it is written down, or a reader would find another verdict.
DIGITS = 4


@dataclass(frozen=True)
class ExamThresholds:
    """From where on a finding is called; None where nothing of the kind is called by itself.

    Attributes:
        stretch: of the mean probability over 6 mm.
        lesion: of a lesion's score.
    """

    stretch: float | None = None
    lesion: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What is said of an exam.

    Attributes:
        positive: whether anything is called; None where no threshold is set.
        stretch_score: highest mean probability over 6 mm; None where the model does not classify.
        lesion_score: highest score of a lesion that can be a clot, 0 without one; None where the
            model looks for no lesions.
        stretches: the called ones, (first, last) places among the slices given, both included.
        lesions: for each, whether it is called; None where no threshold is set.
    """

    positive: bool | None
    stretch_score: float | None
    lesion_score: float | None
    stretches: tuple[tuple[int, int], ...]
    lesions: tuple[bool | None, ...]


def as_written(score: float) -> float:
    """A score with the digits that reports give."""
    return float(np.round(score, DIGITS))


def threshold_as_written(threshold: float | None) -> float | None:
    """A threshold with the digits of a score: rounded up, it calls the same scores."""
    if threshold is None:
        return None
    return math.ceil(round(threshold * 10**DIGITS, 6)) / 10**DIGITS


def score_text(score: float) -> str:
    """A score or its threshold in all its digits, so that readers find the same verdict."""
    return f"{score:.{DIGITS}f}"


def can_be_clot(mean_hu: float | None) -> bool:
    """Whether a lesion has the attenuation of a clot; of one that is boxed only nobody knows."""
    return mean_hu is None or CLOT_HU[0] <= round(mean_hu, 1) <= CLOT_HU[1]


def judge(
    probability: Sequence[float],
    step_mm: float,
    lesions: Sequence[tuple[float, float | None]] | None,
    thresholds: ExamThresholds,
) -> Verdict:
    """The verdict on one exam.

    Args:
        probability: (slices,), neighbours in the body side by side; empty where the model does
            not classify.
        step_mm: between neighbouring slices.
        lesions: score and mean attenuation (HU, None where unknown) of each; None where the model
            looks for none.
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
        possible = [score for score, mean_hu in lesions if can_be_clot(mean_hu)]
        lesion_score = as_written(max(possible, default=0.0))
        decided |= thresholds.lesion is not None
    called: list[bool | None] = []
    for score, mean_hu in lesions or ():
        if not can_be_clot(mean_hu):
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
    """The pair of thresholds whose verdicts on these exams are best by Youden's index.

    Of equally good pairs the most sensitive one is taken, then the one that calls most lesions. A
    threshold lies halfway between the scores on both sides of it, rounded up to their digits.

    Args:
        positive: (exams,), the truth.
        verdicts: (exams,), of which the scores are read.

    Returns:
        None where the exams are of one class, or no pair is better than chance. One of the pair is
        None where findings of this kind are better not called.
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
    """Thresholds that part the scores differently, infinity for none; none calls every exam."""
    values = np.unique(scores[~np.isnan(scores)])
    above = np.append(values[1:], max(1.0, values[-1])) if len(values) else values
    cuts = (values + above) / 2
    return np.append(cuts[cuts > values], np.inf)


def _called(scores: FloatArray, cuts: FloatArray) -> FloatArray:
    """(cuts,): how many scores lie at a threshold or above it; NaN is never called."""
    known = np.sort(scores[~np.isnan(scores)])
    return (len(known) - np.searchsorted(known, cuts, side="left")).astype(np.float64)
