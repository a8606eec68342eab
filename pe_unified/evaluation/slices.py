"""Slice classification: ROC, AUC, the operating threshold and metrics at it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pe_unified.evaluation.intervals import FloatArray, Statistic, ratio
from pe_unified.evaluation.tables import IntArray, Table, index_patients, sum_by_patient

#: Used if a split cannot choose a threshold (one class only).
DEFAULT_THRESHOLD = 0.5
#: Share of the positive slices that must pass the gate to the more expensive heads.
GATE_SENSITIVITY = 0.995


@dataclass(frozen=True)
class SliceTable(Table):
    """Labels and scores of a split.

    Fields:
        patient: int64 (slices,), index into ``patients``.
        label: bool (slices,), whether the slice shows embolism.
        score: float64 (slices,), probability of embolism.
    """

    patient: IntArray
    label: NDArray[np.bool_]
    score: FloatArray

    @classmethod
    def build(cls, patient_ids: list[str], labels: ArrayLike, scores: ArrayLike) -> "SliceTable":
        patients, patient = index_patients(patient_ids)
        label = np.asarray(labels).astype(bool)
        score = np.asarray(scores, dtype=np.float64)
        if not (len(patient) == len(label) == len(score)):
            raise ValueError(
                f"{len(patient)} patients, {len(label)} labels, {len(score)} scores: one of each "
                "per slice is needed"
            )
        if np.isnan(score).any():
            bad = patients[patient[np.flatnonzero(np.isnan(score))[0]]]
            raise ValueError(f"a score of patient {bad} is NaN; the model has diverged")
        return cls(patients, patient, label, score)

    def statistic(self, threshold: float) -> Statistic:
        """accuracy, auc, f1, sensitivity and specificity; score >= threshold is positive.

        Undefined: sensitivity, f1 and auc without a positive slice; specificity and auc
        without a negative one.
        """
        called = self.score >= threshold
        cells = np.stack(
            [
                self.label & called,
                ~self.label & called,
                ~self.label & ~called,
                self.label & ~called,
            ],
            axis=1,
        )
        by_patient = sum_by_patient(cells, self.patient, len(self.patients))
        auc = WeightedAuc(self.score, self.label, self.patient)

        def statistic(weights: FloatArray) -> dict[str, FloatArray]:
            tp, fp, tn, fn = (weights @ by_patient).T
            positives = tp + fn
            return {
                "accuracy": ratio(tp + tn, tp + fp + tn + fn),
                "auc": auc(weights),
                "f1": np.where(positives > 0, ratio(2 * tp, 2 * tp + fp + fn), np.nan),
                "sensitivity": ratio(tp, positives),
                "specificity": ratio(tn, tn + fp),
            }

        return statistic


class WeightedAuc:
    """Area under the ROC curve as a function of group weights; ties count one half.

    The Mann-Whitney form, summed over pairs: each positive against the weight of the negatives
    below it. Ranks are computed once; each subset then costs one cumulative sum.

    Args:
        score: float (cases,).
        label: bool (cases,).
        group: int (cases,), the column of ``weights`` that applies to each case.
    """

    def __init__(self, score: FloatArray, label: NDArray[np.bool_], group: IntArray) -> None:
        # Both classes by ascending score, so that a subset reads memory in order.
        order = np.argsort(score, kind="stable")
        positives, negatives = order[label[order]], order[~label[order]]
        self._positive_group = group[positives]
        self._negative_group = group[negatives]
        self._below = np.searchsorted(score[negatives], score[positives], side="left")
        self._not_above = np.searchsorted(score[negatives], score[positives], side="right")

    def __call__(self, weights: FloatArray) -> FloatArray:
        """``weights`` (subsets, groups) to areas (subsets,); NaN if a class is absent."""
        areas = np.full(len(weights), np.nan)
        cumulative = np.zeros(len(self._negative_group) + 1)
        for row, weight in enumerate(weights):
            np.cumsum(weight[self._negative_group], out=cumulative[1:])
            positive = weight[self._positive_group]
            pairs = positive.sum() * cumulative[-1]
            if pairs > 0:
                wins = cumulative[self._below] + cumulative[self._not_above]
                areas[row] = 0.5 * (positive @ wins) / pairs
        return areas


def roc_points(
    score: FloatArray, label: NDArray[np.bool_], weight: FloatArray | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The ROC curve of the cases: false-positive rate, sensitivity and threshold.

    Each (points,), from (0, 0) at threshold infinity to (1, 1), one point per distinct score.
    ``weight`` (cases,) is the weight of each case. Rates of an absent class are NaN.
    """
    weight = np.ones(len(score)) if weight is None else weight
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))
    tp = np.cumsum((weight * label)[order])[last]
    fp = np.cumsum((weight * ~label)[order])[last]
    tp, fp = np.concatenate([[0.0], tp]), np.concatenate([[0.0], fp])
    thresholds = np.concatenate([[np.inf], score[order][last]])
    return ratio(fp, fp[-1:]), ratio(tp, tp[-1:]), thresholds


def choose_threshold(table: SliceTable) -> float | None:
    """The best threshold on this split; None if it has only one class.

    It maximises sensitivity + specificity - 1 (Youden 1950). Of equally good thresholds the most
    sensitive one is taken. It is halfway between the lowest score called positive and the next one
    below.
    """
    if table.label.all() or not table.label.any():
        return None
    fpr, sensitivity, thresholds = roc_points(table.score, table.label)
    merit = sensitivity - fpr
    # The point (0, 0) calls nothing positive and is not an operating point.
    best = 1 + int(np.flatnonzero(np.isclose(merit[1:], merit[1:].max(), atol=1e-12))[-1])
    chosen = thresholds[best]
    if best + 1 < len(thresholds):
        chosen = (chosen + thresholds[best + 1]) / 2
    return float(chosen)


def choose_gate(table: SliceTable, sensitivity: float = GATE_SENSITIVITY) -> float | None:
    """The highest threshold that still calls this share of the positive slices positive.

    None if the split has no positive slice.
    """
    positive = np.sort(table.score[table.label])
    if not len(positive):
        return None
    return float(positive[math.floor((1 - sensitivity) * len(positive) + 1e-9)])
