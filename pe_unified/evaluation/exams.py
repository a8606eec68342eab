"""Metrics of exams: the RSNA-STR PE challenge's loss, AUC per label, and the positive exam."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from pe_unified.ct.exam_labels import EXAM_TARGETS, EXAM_WEIGHTS, IMAGE_WEIGHT
from pe_unified.evaluation.calibration import Calibration, calibration_statistic
from pe_unified.evaluation.intervals import FloatArray, Statistic, ratio
from pe_unified.evaluation.slices import SliceTable, WeightedAuc
from pe_unified.evaluation.tables import IntArray, Table, index_patients, sum_by_patient

#: The main target of the ten: its probability is calibrated and has the threshold.
POSITIVE = EXAM_TARGETS[0]
#: Probabilities are clipped this far from 0 and 1: a certain error costs 34.5, not infinity.
CLIP = 1e-15


def binary_cross_entropy(label: FloatArray, probability: FloatArray) -> FloatArray:
    """Element-wise loss with the natural logarithm; NaN where the label is NaN."""
    clipped = np.clip(probability, CLIP, 1 - CLIP)
    return -(label * np.log(clipped) + (1 - label) * np.log1p(-clipped))


def exam_loss_parts(
    label: ArrayLike, probability: ArrayLike, slice_label: ArrayLike, slice_probability: ArrayLike
) -> tuple[float, float]:
    """Contribution of one exam to numerator and denominator of the challenge's loss.

    Args:
        label: (9,), 0, 1 or NaN (unknown, left out of both), in the order of EXAM_WEIGHTS.
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
        label: float64 (exams, 10), 0, 1 or NaN where unknown, in the order of EXAM_TARGETS.
        probability: float64 (exams, 10), NaN where the model gives none; the first column is from
            :func:`positive_probability`.
        loss_parts: float64 (exams, 2), :func:`exam_loss_parts`; NaN for an exam with a missing
            label or probability.
        calibration: float64 (2,), slope and intercept of the :class:`Calibration` of the positive
            exam, fixed on validation; 1 and 0 if there is none.
    """

    patient: IntArray
    label: FloatArray
    probability: FloatArray
    loss_parts: FloatArray
    calibration: FloatArray = field(default_factory=lambda: np.array([1.0, 0.0]), kw_only=True)

    @classmethod
    def build(
        cls,
        patient_ids: list[str],
        labels: ArrayLike,
        probabilities: ArrayLike,
        slice_labels: Sequence[FloatArray | None],
        slice_probabilities: Sequence[FloatArray | None],
        *,
        calibration: Calibration | None = None,
    ) -> "ExamTable":
        """One entry per exam.

        Args:
            patient_ids: (exams,).
            labels: (exams, 10), 0, 1 or NaN where unknown.
            probabilities: (exams, 10), NaN where the model gives none.
            slice_labels: (exams,) of (slices,), 0, 1 or NaN; None if there are none.
            slice_probabilities: likewise.
            calibration: of the positive exam, fixed on validation.

        Raises:
            ValueError: shapes do not fit, or a value is not a probability; names the patient.
        """
        patients, patient = index_patients(patient_ids)
        label, probability = (
            np.asarray(each, dtype=np.float64).reshape(-1, len(EXAM_TARGETS))
            for each in (labels, probabilities)
        )
        outside = ((probability < 0) | (probability > 1)).any(axis=1)
        if outside.any():
            bad = patient_ids[int(np.flatnonzero(outside)[0])]
            raise ValueError(f"exam of patient {bad}: a probability lies between 0 and 1")
        parts = []
        for index, exam in enumerate(
            zip(label[:, 1:], probability[:, 1:], slice_labels, slice_probabilities, strict=True)
        ):
            try:
                parts.append(_loss_parts(*exam))
            except ValueError as error:
                raise ValueError(f"exam of patient {patient_ids[index]}: {error}") from error
        probability = np.column_stack([positive_probability(probability), probability[:, 1:]])
        line = np.array([*(calibration or Calibration()).as_floats().values()])
        return cls(patients, patient, label, probability, np.array(parts), calibration=line)

    def of(self, target: str) -> SliceTable:
        """One of EXAM_TARGETS alone: the exams whose label and probability are known."""
        column = EXAM_TARGETS.index(target)
        label, score = self.label[:, column], self.probability[:, column]
        known = ~np.isnan(label) & ~np.isnan(score)
        return SliceTable(
            self.patients,
            self.patient[known],
            label[known] > 0.5,
            score[known],
            groups=self.groups,
        )

    def calibrated(self) -> SliceTable:
        """:meth:`of` the positive exam, with the probabilities that reports show."""
        positive = self.of(POSITIVE)
        return replace(positive, score=Calibration(*self.calibration).apply(positive.score))

    def statistic(self, threshold: float) -> Statistic:
        """The metrics of the exams, each over the exams for which it is known.

        ``auc``, ``sensitivity``, ``specificity`` (p >= threshold is positive, before calibration),
        ``ece`` and ``brier`` (after it) for the positive exam, ``auc_<label>`` for the nine others,
        and ``weighted_bce``, the challenge's loss (lower is better). Its name avoids "loss",
        because mmengine sums every key with "loss" in it.

        Labels that the model never predicts are left out; so is the loss if any of its nine labels
        is missing. An AUC is undefined if its exams are of one class, the loss if no exam is
        complete. It equals the challenge's loss if the steps are all slices of the exam; fewer,
        longer steps have less weight.
        """
        columns = ~np.isnan(self.probability).T
        answered = {name: each.any() for name, each in zip(EXAM_TARGETS, columns, strict=True)}
        calls, shown = self.of(POSITIVE).statistic(threshold), self.calibrated()
        calibration = calibration_statistic(
            shown.label, shown.score, shown.patient, len(self.patients)
        )
        by_patient = sum_by_patient(
            np.nan_to_num(self.loss_parts), self.patient, len(self.patients)
        )
        areas = {}
        for name in EXAM_WEIGHTS:
            if answered[name]:
                cases = self.of(name)
                areas[f"auc_{name}"] = WeightedAuc(cases.score, cases.label, cases.patient)

        def statistic(weights: FloatArray) -> dict[str, FloatArray]:
            found = {name: auc(weights) for name, auc in areas.items()}
            if len(areas) == len(EXAM_WEIGHTS):
                found["weighted_bce"] = ratio(*(weights @ by_patient).T)
            if answered[POSITIVE]:
                called = calls(weights)
                found |= {name: called[name] for name in ("auc", "sensitivity", "specificity")}
                found |= calibration(weights)
            return found

        return statistic


def positive_probability(probability: FloatArray) -> FloatArray:
    """Probability that each exam is positive: float64 (exams,), NaN where unknown.

    If the model does not predict it, 1 minus its "negative" and, if predicted, its "indeterminate"
    probability, at least 0.

    Args:
        probability: (exams, 10) in the order of EXAM_TARGETS.
    """
    answered, negative, indeterminate = probability[:, :3].T
    rest = np.clip(1 - negative - np.nan_to_num(indeterminate), 0, 1)
    return np.where(np.isnan(answered), rest, answered)


def _loss_parts(
    label: FloatArray,
    probability: FloatArray,
    slice_label: FloatArray | None,
    slice_probability: FloatArray | None,
) -> tuple[float, float]:
    """Like :func:`exam_loss_parts`; NaN if any label or probability of the loss is unknown."""
    unknown = float("nan"), float("nan")
    if slice_label is None or slice_probability is None:
        return unknown
    if any(np.isnan(each).any() for each in (label, probability, slice_label)):
        return unknown
    return exam_loss_parts(label, probability, slice_label, slice_probability)
