"""Exam metrics for mmengine's loops; the computation is in ``exams.py``."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch

from pe_unified.ct.exam_labels import EXAM_TARGETS, exam_targets
from pe_unified.evaluation import slices
from pe_unified.evaluation.calibration import Calibration, fit_calibration
from pe_unified.evaluation.exam_score import exam_probability
from pe_unified.evaluation.exams import POSITIVE, ExamTable
from pe_unified.evaluation.intervals import FloatArray, Statistic
from pe_unified.evaluation.metrics import (
    UNKNOWN,
    PatientMetric,
    SliceMetric,
    patient_of,
    prediction_of,
)
from pe_unified.registry import METRICS

Score = Literal["max", "window"]


@METRICS.register_module()
class ExamMetric(PatientMetric[ExamTable]):
    """``exam/auc, weighted_bce, ...`` over exams with ``gt_exam``; see :class:`ExamTable`.

    The threshold applies to the probability that the exam is positive; the chosen threshold
    maximises sensitivity + specificity.

    Args:
        calibration: whether to fit a :class:`Calibration` to this probability if the split chooses
            the threshold; returned as ``calibration_slope`` and ``calibration_intercept``, absent
            if no line is best. In a test, ``ece`` and ``brier`` are after the calibration of
            validation (:func:`fix_thresholds`).
    """

    default_prefix, table_type = "exam", ExamTable
    counted = "exams"

    def __init__(self, calibration: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.calibration = calibration
        self.applied = Calibration()

    def read(self, sample: Mapping[str, Any]) -> tuple:
        if "gt_exam" not in sample:
            return UNKNOWN
        label = _of_exam(sample["gt_exam"], "gt_exam")
        if np.isnan(label).all():
            return UNKNOWN
        answer = _of_exam(prediction_of(sample, "pred_exam"), "pred_exam")
        if np.isnan(answer).all():
            raise ValueError("all of 'pred_exam' is NaN; the model has diverged")
        fields = ("gt_steps", "pred_steps")
        steps = [_floats(sample[field]) if field in sample else None for field in fields]
        return patient_of(sample), label, answer, *steps

    def build(self, rows: list[tuple]) -> ExamTable:
        patients, *arrays = zip(*rows)
        return ExamTable.build(list(patients), *arrays, calibration=self.applied)

    def choose(self, table: ExamTable) -> float | None:
        return slices.choose_threshold(table.of(POSITIVE))

    def further_choices(
        self, table: ExamTable, rows: list[tuple], threshold: float
    ) -> dict[str, float]:
        """The calibration, if this split chooses; warns if probabilities are not changed."""
        if not self.calibration or self.threshold is not None:
            return {}
        positive = table.of(POSITIVE)
        fitted = fit_calibration(positive.label, positive.score)
        if fitted.kept:
            self._say(f"probabilities stay as they are: {fitted.kept}", True)
            return {}
        return fitted.as_floats()

    def apply_choices(self, chosen: Mapping[str, Any]) -> None:
        self.applied = Calibration.of(chosen, self.prefix)

    def statistic(self, table: ExamTable, threshold: float) -> Statistic:
        return table.statistic(threshold)


@METRICS.register_module()
class StepMetric(SliceMetric):
    """Like :class:`SliceMetric`, over the steps (slices or chunks of them) of exams.

    Only steps with a known label in ``gt_steps`` count; ``pred_steps`` is their probability.
    """

    counted = "exams"

    def read(self, sample: Mapping[str, Any]) -> tuple:
        if "gt_steps" not in sample:
            return UNKNOWN
        label = _floats(sample["gt_steps"])
        known = ~np.isnan(label)
        if not known.any():
            return UNKNOWN
        score = _floats(prediction_of(sample, "pred_steps"))
        if score.shape != label.shape:
            raise ValueError(f"{score.shape} probabilities for {label.shape} steps")
        return patient_of(sample), label[known], score[known]

    def build(self, rows: list[tuple]) -> slices.SliceTable:
        patients, labels, scores = zip(*rows)
        repeated = np.repeat(patients, [len(label) for label in labels])
        return slices.SliceTable.build(
            repeated.tolist(), np.concatenate(labels), np.concatenate(scores)
        )

    def further_choices(
        self, table: slices.SliceTable, rows: list[tuple], threshold: float
    ) -> dict[str, float]:
        """No gate: no other head uses one."""
        return {}


@METRICS.register_module()
class SlicesToExamMetric(ExamMetric):
    """Exam metrics of a slice model, with exams scored from their slices.

    A sample is a slice as for :class:`SliceMetric`, with ``study_uid`` and ``z_mm`` (or
    ``slice_index`` if unknown). Each series is scored separately, and an exam has the highest score
    of its series. The label of the exam comes from the meta information ``exam_labels`` (by the
    names of EXAM_LABELS), or else from its slices: positive if one is, negative if all are known to
    be.

    Args:
        score: "window", the highest mean over 6 mm, as in reports (slices at one height count as 1
            mm apart); or "max", the highest slice.
        indeterminate: for exams with labels, see :func:`~pe_unified.ct.exam_labels.exam_targets`.
    """

    counted = "slices"

    def __init__(
        self,
        score: Score = "window",
        indeterminate: Literal["unknown", "positive"] = "unknown",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if score not in get_args(Score):
            raise ValueError(f"unknown score '{score}'; known: max, window")
        self.score = score
        self.indeterminate = indeterminate

    def read(self, sample: Mapping[str, Any]) -> tuple:
        height = sample.get("z_mm")
        if height is None:
            height = sample.get("slice_index")
        if height is None:
            raise ValueError(
                "no 'z_mm' and no 'slice_index', so the position of the slice is unknown"
            )
        label = float(sample["gt_label"]) if "gt_label" in sample else float("nan")
        exam = sample.get("exam_labels")
        targets = None if exam is None else exam_targets(exam, self.indeterminate)
        probability = float(prediction_of(sample, "pred_score")[1])
        if np.isnan(probability):
            raise ValueError("'pred_score' is NaN; the model has diverged")
        series = sample.get("study_uid"), sample.get("series_uid")
        return patient_of(sample), series, float(height), label, probability, targets

    def build(self, rows: list[tuple]) -> ExamTable:
        exams: dict[tuple, list[tuple]] = defaultdict(list)
        for patient, (study, series), *row in rows:
            exams[patient, study].append((series, *row))
        scores = np.full((len(exams), len(EXAM_TARGETS)), np.nan)
        scores[:, 0] = [self._score(exam) for exam in exams.values()]
        nothing = [None] * len(exams)
        labels = [_labels(exam) for exam in exams.values()]
        patients = [patient for patient, _ in exams]
        own = labels, scores, nothing, nothing
        return ExamTable.build(patients, *own, calibration=self.applied)

    def _score(self, exam: Sequence[tuple]) -> float:
        """The score of an exam from rows (series, height, label, probability, ...)."""
        by_series: dict[Any, list[tuple[float, float]]] = defaultdict(list)
        for series, height, _, probability, _ in exam:
            by_series[series].append((height, probability))
        return max(self._score_series(sorted(each)) for each in by_series.values())

    def _score_series(self, placed: Sequence[tuple[float, float]]) -> float:
        heights, probability = np.array(placed).T
        if self.score == "max":
            return float(probability.max())
        step_mm = float(np.median(np.diff(heights))) if len(heights) > 1 else 0.0
        return exam_probability(probability, step_mm or 1.0)


def _labels(exam: Sequence[tuple]) -> list[float]:
    """The ten targets from rows (..., label, probability, targets).

    Slices decide if both the negative and the indeterminate label are unknown.
    """
    *_, label, _, targets = zip(*exam)
    if targets[0] is not None and not np.isnan(targets[0][1:3]).all():
        return targets[0]
    positive = 1.0 if 1 in label else float("nan") if np.isnan(label).any() else 0.0
    return [positive] + [float("nan")] * (len(EXAM_TARGETS) - 1)


def _floats(values: Any) -> FloatArray:
    return torch.as_tensor(values).detach().cpu().double().numpy()


def _of_exam(values: Any, field: str) -> FloatArray:
    found = _floats(values)
    if found.shape != (len(EXAM_TARGETS),):
        raise ValueError(f"'{field}' holds {len(EXAM_TARGETS)} values, got {found.shape}")
    return found
