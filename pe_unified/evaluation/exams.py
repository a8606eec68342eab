"""Exam metrics of the RSNA-STR PE challenge: its weighted log loss, and the AUC per label."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pe_unified.ct.exam_labels import EXAM_WEIGHTS, IMAGE_WEIGHT
from pe_unified.evaluation.intervals import FloatArray, Statistic, ratio
from pe_unified.evaluation.slices import WeightedAuc
from pe_unified.evaluation.tables import IntArray, Table, index_patients, sum_by_patient

#: Probabilities are kept this far from 0 and 1: a certain error costs 34.5, not infinity.
CLIP = 1e-15


def binary_cross_entropy(label: FloatArray, probability: FloatArray) -> FloatArray:
    """Natural-log loss, element-wise; NaN where the label is."""
    clipped = np.clip(probability, CLIP, 1 - CLIP)
    return -(label * np.log(clipped) + (1 - label) * np.log1p(-clipped))


def exam_loss_parts(
    label: ArrayLike, probability: ArrayLike, slice_label: ArrayLike, slice_probability: ArrayLike
) -> tuple[float, float]:
    """Numerator and denominator that one exam adds to the challenge's loss.

    Args:
        label: (9,), 0, 1 or NaN (unknown: left out of both), in the order of EXAM_WEIGHTS.
        probability: (9,).
        slice_label: (slices,), 0 or 1.
        slice_probability: (slices,).
    """
    exam, exam_probability = (np.asarray(a, dtype=np.float64) for a in (label, probability))
    slices, slices_probability = (
        np.asarray(a, dtype=np.float64) for a in (slice_label, slice_probability)
    )
    if exam.shape != (len(EXAM_WEIGHTS),) or exam_probability.shape != exam.shape:
        raise ValueError(
            f"an exam has {len(EXAM_WEIGHTS)} labels and probabilities, got "
            f"{exam.shape} and {exam_probability.shape}"
        )
    if slices.shape != slices_probability.shape or not slices.size:
        raise ValueError(
            f"an exam has one probability per slice, got {slices_probability.shape} for "
            f"{slices.shape} labels"
        )
    if np.isnan(slices).any() or np.isnan([*exam_probability, *slices_probability]).any():
        raise ValueError("the loss needs every slice's label and no NaN among probabilities")
    known = ~np.isnan(exam)
    weights = np.array(list(EXAM_WEIGHTS.values()))[known]
    image_weight = IMAGE_WEIGHT * slices.mean()
    numerator = weights @ binary_cross_entropy(exam[known], exam_probability[known])
    numerator += image_weight * binary_cross_entropy(slices, slices_probability).sum()
    return float(numerator), float(weights.sum() + image_weight * len(slices))


@dataclass(frozen=True)
class ExamTable(Table):
    """Exams of a split.

    Fields:
        patient: int64 (exams,), index into ``patients``.
        label: float64 (exams, 9), 0, 1 or NaN where unknown, in the order of EXAM_WEIGHTS.
        probability: float64 (exams, 9).
        loss_parts: float64 (exams, 2), :func:`exam_loss_parts`.
    """

    patient: IntArray
    label: FloatArray
    probability: FloatArray
    loss_parts: FloatArray

    @classmethod
    def build(
        cls,
        patient_ids: list[str],
        labels: ArrayLike,
        probabilities: ArrayLike,
        slice_labels: list[FloatArray],
        slice_probabilities: list[FloatArray],
    ) -> "ExamTable":
        """One entry per exam; arguments after the patients as in :func:`exam_loss_parts`."""
        patients, patient = index_patients(patient_ids)
        label = np.asarray(labels, dtype=np.float64)
        probability = np.asarray(probabilities, dtype=np.float64)
        parts = []
        for index, exam in enumerate(
            zip(label, probability, slice_labels, slice_probabilities, strict=True)
        ):
            try:
                parts.append(exam_loss_parts(*exam))
            except ValueError as error:
                raise ValueError(f"exam of patient {patient_ids[index]}: {error}") from error
        return cls(patients, patient, label, probability, np.array(parts))

    def statistic(self) -> Statistic:
        """``weighted_bce`` (the challenge's loss, less is better) and ``auc_<label>``.

        The AUC of a label is undefined where its known exams are of one class. The loss is
        not named so, as mmengine sums every key that has "loss" in it.
        """
        by_patient = sum_by_patient(self.loss_parts, self.patient, len(self.patients))
        areas = {}
        for column, name in enumerate(EXAM_WEIGHTS):
            known = ~np.isnan(self.label[:, column])
            areas[f"auc_{name}"] = WeightedAuc(
                self.probability[known, column],
                self.label[known, column] > 0.5,
                self.patient[known],
            )

        def statistic(weights: FloatArray) -> dict[str, FloatArray]:
            numerator, denominator = (weights @ by_patient).T
            return {
                "weighted_bce": ratio(numerator, denominator),
                **{name: auc(weights) for name, auc in areas.items()},
            }

        return statistic
