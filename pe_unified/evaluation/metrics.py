"""Metrics for mmengine's loops; the computation is in the neighbouring modules."""

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import print_log

from pe_unified.evaluation import detection, segmentation, slices
from pe_unified.evaluation.coarse import choose_coarse_gate, whole_series
from pe_unified.evaluation.intervals import (
    LEVEL,
    RESAMPLES,
    Statistic,
    estimate,
    few_patients,
)
from pe_unified.evaluation.tables import Table
from pe_unified.registry import METRICS
from pe_unified.tasks import TASKS

AnyTable = TypeVar("AnyTable", bound=Table)

#: Entry for a sample without the label: results need one entry per sample, because mmengine removes
#: the padding of distributed samplers by counting.
UNKNOWN = ()
_BY_DEFAULT = "by default, because this split cannot choose one"


class PatientMetric(BaseMetric, Generic[AnyTable]):
    """A metric with an operating threshold and intervals over patients.

    Returned to mmengine: every metric as a float, NaN if undefined (also logged as a warning),
    ``<key>_ci`` as a list ``[low, high]``, ``threshold``, and ``threshold_by_default`` if neither
    the split nor the user chose it. mmengine sends floats to its visual backends and keeps lists
    for its text log and result files.

    Args:
        threshold: probability from which on a finding counts. None chooses it on the evaluated
            split, which is optimistic for that split: do so only on validation, and pass the choice
            (:func:`fix_thresholds`) to the test.
        resamples: largest number of patient subsets for the intervals; 0 returns no intervals
            (quick validation in training).
        seed: seed of the subsets, if there are more patients than ``resamples``.
        level: coverage of the intervals.

    Attributes:
        table: after evaluation, on the main process, the arrays of the split (for figures,
            comparisons and later thresholds); None before, and if no sample has the label.
    """

    table_type: ClassVar[type[Table]]
    #: Name of the samples in messages.
    counted: ClassVar[str] = "slices"

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the metrics."""
        return tuple(TASKS[self.default_prefix].metrics)

    def __init__(
        self,
        threshold: float | None = None,
        resamples: int = RESAMPLES,
        seed: int = 0,
        level: float = LEVEL,
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        if resamples < 0:
            raise ValueError(f"resamples cannot be negative, got {resamples}")
        if not 0 < level < 1:
            raise ValueError(f"level lies between 0 and 1, got {level}")
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(f"a threshold lies between 0 and 1, got {threshold}")
        self.threshold = threshold
        self.resamples = resamples
        self.seed = seed
        self.level = level
        self.table: AnyTable | None = None

    @abstractmethod
    def read(self, sample: Mapping[str, Any]) -> tuple:
        """The row of one sample, ``(patient, ...)``, or () if the label is unknown."""

    @abstractmethod
    def build(self, rows: list[tuple]) -> AnyTable:
        """The table of all samples that have the label."""

    @abstractmethod
    def choose(self, table: AnyTable) -> float | None:
        """The best threshold on this split; None if it cannot be determined."""

    @abstractmethod
    def statistic(self, table: AnyTable, threshold: float) -> Statistic:
        """The metrics at a threshold, as a function of patient weights."""

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        for sample in data_samples:
            try:
                row = self.read(sample)
                self.results.append((sample.get("group"), *row) if row else row)
            except (ValueError, KeyError) as error:
                raise ValueError(f"{type(self).__name__}: {_name(sample)}: {error}") from error

    def compute_metrics(self, results: list[tuple]) -> dict[str, Any]:
        rows = [row for row in results if row]
        self.table = None
        if not rows:
            self._say(
                f"none of {len(results)} {self.counted} has the label: no metric is defined", True
            )
            return self._undefined()
        group_of = {patient: group or patient for group, patient, *_ in rows}
        rows = [row[1:] for row in rows]
        table = self.build(rows)
        groups = tuple(group_of[patient] for patient in table.patients)
        self.table = table = dataclasses.replace(table, groups=groups)
        threshold, origin = self._threshold(table)
        defaulted = origin == _BY_DEFAULT
        self._say(
            f"{len(rows)} of {len(results)} {self.counted} carry the label, {len(table.patients)} "
            f"patients; threshold {threshold:.4g} {origin}",
            warn=defaulted,
        )
        estimates = estimate(
            self.statistic(table, threshold),
            table.units,
            self.resamples,
            self.seed,
            self.level,
        )
        if self.resamples and (few := few_patients(table)):
            self._say(few, True)
        measured = [key for key in self.keys if key in estimates]
        undefined = [key for key in measured if math.isnan(estimates[key].value)]
        if undefined:
            self._say(f"undefined on this split: {', '.join(undefined)}", True)
        metrics: dict[str, Any] = {}
        for key in measured:
            metrics[key] = estimates[key].value
            if self.resamples:
                metrics[f"{key}_ci"] = [estimates[key].low, estimates[key].high]
        metrics |= {"threshold": threshold, **self.further_choices(table, rows, threshold)}
        return {**metrics, "threshold_by_default": 1.0} if defaulted else metrics

    def further_choices(
        self, table: AnyTable, rows: list[tuple], threshold: float
    ) -> dict[str, float]:
        """Further choices of a split that chooses the threshold; ``rows`` as in :meth:`build`."""
        return {}

    def apply_choices(self, chosen: Mapping[str, Any]) -> None:
        """Use what :meth:`further_choices` found on validation; :func:`fix_thresholds` calls this
        before a test."""

    def _threshold(self, table: AnyTable) -> tuple[float, str]:
        if self.threshold is not None:
            return float(self.threshold), "as given"
        chosen = self.choose(table)
        if chosen is not None:
            return chosen, "chosen on this split"
        return slices.DEFAULT_THRESHOLD, _BY_DEFAULT

    def _undefined(self) -> dict[str, Any]:
        nan = float("nan")
        metrics: dict[str, Any] = {}
        for key in self.keys:
            metrics[key] = nan
            if self.resamples:
                metrics[f"{key}_ci"] = [nan, nan]
        if self.threshold is not None:
            return {**metrics, "threshold": float(self.threshold)}
        return {**metrics, "threshold": slices.DEFAULT_THRESHOLD, "threshold_by_default": 1.0}

    def _say(self, text: str, warn: bool = False) -> None:
        print_log(f"{self.prefix}: {text}", logger="current", level=30 if warn else 20)


@METRICS.register_module()
class SliceMetric(PatientMetric[slices.SliceTable]):
    """``cls/accuracy, auc, f1, sensitivity, specificity`` over slices with ``gt_label``.

    The chosen threshold maximises sensitivity + specificity; the AUC needs no threshold.
    """

    default_prefix, table_type = "cls", slices.SliceTable

    def read(self, sample: Mapping[str, Any]) -> tuple:
        if "gt_label" not in sample:
            return UNKNOWN
        score = prediction_of(sample, "pred_score")
        place = (sample.get(key) for key in ("study_uid", "series_uid", "slice_index"))
        step_mm = (sample.get("spacing_mm") or (None,))[-1]
        return patient_of(sample), int(sample["gt_label"]), float(score[1]), *place, step_mm

    def build(self, rows: list[tuple]) -> slices.SliceTable:
        patients, labels, scores, *_ = zip(*rows)
        return slices.SliceTable.build(list(patients), labels, scores)

    def choose(self, table: slices.SliceTable) -> float | None:
        return slices.choose_threshold(table)

    def further_choices(
        self, table: slices.SliceTable, rows: list[tuple], threshold: float
    ) -> dict[str, float]:
        """``gate`` and ``coarse_gate``, with the numbers that the latter was chosen on.

        Below ``gate``, segmentation and detection can be skipped. From ``coarse_gate`` on, the
        slices next to a slice are read. Neither is above the threshold, so positive slices are
        never skipped.
        """
        if self.threshold is not None or (gate := slices.choose_gate(table)) is None:
            return {}
        coarse = choose_coarse_gate(whole_series(rows), highest=threshold)
        return {"gate": min(gate, threshold), **(coarse.numbers if coarse else {})}

    def statistic(self, table: slices.SliceTable, threshold: float) -> Statistic:
        return table.statistic(threshold)


@METRICS.register_module()
class LungMetric(SliceMetric):
    """``lung/accuracy, auc, ...`` over slices that are labelled for lung.

    Like :class:`SliceMetric`, under a name that cannot be mistaken for embolism.
    """

    default_prefix = "lung"

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(TASKS["cls"].metrics)

    def further_choices(
        self, table: slices.SliceTable, rows: list[tuple], threshold: float
    ) -> dict[str, float]:
        """No gate: slices without lung are not searched."""
        return {}


@METRICS.register_module()
class SegMetric(PatientMetric[segmentation.SegTable]):
    """``seg/dice, iou, dice_positive, iou_positive, slice_auc`` over slices with ``gt_sem_seg``.

    The chosen threshold maximises the pooled Dice; any threshold is rounded up to a multiple of
    1/256. Without ``seg_prob``, ``pred_sem_seg`` is used as it is.
    """

    default_prefix, table_type = "seg", segmentation.SegTable

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.threshold is not None:
            segmentation.threshold_bin(self.threshold)  # raises if it is out of range

    def read(self, sample: Mapping[str, Any]) -> tuple:
        if "gt_sem_seg" not in sample:
            return UNKNOWN
        if "seg_prob" in sample:
            probability = sample["seg_prob"]["data"]
        else:
            probability = prediction_of(sample, "pred_sem_seg")["data"] != 0
        mask = sample["gt_sem_seg"]["data"]
        return patient_of(sample), segmentation.probability_histogram(probability, mask)

    def build(self, rows: list[tuple]) -> segmentation.SegTable:
        patients, counts = zip(*rows)
        return segmentation.SegTable.build(list(patients), list(counts))

    def choose(self, table: segmentation.SegTable) -> float | None:
        return segmentation.choose_threshold(table)

    def statistic(self, table: segmentation.SegTable, threshold: float) -> Statistic:
        return table.statistic(threshold)


@METRICS.register_module()
class DetMetric(PatientMetric[detection.DetTable]):
    """``det/mAP, mAP_50, precision, recall, mean_iou`` over slices with ``gt_instances``.

    The last three are at IoU 0.5 and the threshold; the chosen threshold has the best F1.
    """

    default_prefix, table_type = "det", detection.DetTable

    def read(self, sample: Mapping[str, Any]) -> tuple:
        if "gt_instances" not in sample:
            return UNKNOWN
        predicted = prediction_of(sample, "pred_instances")
        matches = detection.match_slice(
            boxes_as_array(sample["gt_instances"]["bboxes"]),
            boxes_as_array(predicted["bboxes"]),
            boxes_as_array(predicted["scores"]),
        )
        return patient_of(sample), matches

    def build(self, rows: list[tuple]) -> detection.DetTable:
        patients, matches = zip(*rows)
        return detection.DetTable.build(list(patients), list(matches))

    def choose(self, table: detection.DetTable) -> float | None:
        return detection.choose_threshold(table)

    def statistic(self, table: detection.DetTable, threshold: float) -> Statistic:
        return table.statistic(threshold)


def fix_thresholds(evaluator: Evaluator, chosen: Mapping[str, Any]) -> dict[str, float]:
    """Apply thresholds chosen on validation, ``{"cls/threshold": 0.4, ...}``, to a test.

    A threshold given to a metric in the config is kept. Exam metrics also take the calibration.

    Args:
        evaluator: its metrics take the threshold under their prefix.
        chosen: result of the evaluation on the validation split; other keys are ignored.

    Returns:
        The thresholds in use, by key.

    Raises:
        KeyError: there is no threshold for a metric.
    """
    applied = {}
    for metric in evaluator.metrics:
        if isinstance(metric, PatientMetric):
            key = f"{metric.prefix}/threshold"
            if metric.threshold is None:
                if chosen.get(key) is None:
                    raise KeyError(
                        f"no '{key}' was chosen on validation; evaluate that split first"
                    )
                metric.threshold = float(chosen[key])
            applied[key] = metric.threshold
            metric.apply_choices(chosen)
    return applied


def prediction_of(sample: Mapping[str, Any], field: str) -> Any:
    """A field that the model sets; ValueError if it is missing."""
    if field not in sample:
        raise ValueError(
            f"the label is there, but no '{field}'; give the model the head that predicts it, or "
            "leave this metric out"
        )
    return sample[field]


def patient_of(sample: Mapping[str, Any]) -> str:
    """The patient of a sample; ValueError if it is missing."""
    if sample.get("patient_id") is None:
        raise ValueError(
            "no 'patient_id', which intervals over patients need; keep it among the meta keys "
            "that the pipeline packs"
        )
    return str(sample["patient_id"])


def _name(sample: Mapping[str, Any]) -> str:
    name = sample.get("img_path") or sample.get("study_uid") or "unnamed sample"
    return f"{name} of patient {sample.get('patient_id')}"


def boxes_as_array(boxes: Any) -> np.ndarray:
    """Boxes or scores of a sample, float64."""
    tensor = getattr(boxes, "tensor", boxes)
    return torch.as_tensor(tensor).detach().cpu().double().numpy()
