"""Metrics of the lung detector: boxes on slices, and emboli kept by a crop to the lungs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from pe_unified.ct.lung_boxes import crop_of_boxes
from pe_unified.ct.lungs import LUNG_MARGIN_MM
from pe_unified.evaluation import detection
from pe_unified.evaluation.intervals import FloatArray, Statistic, ratio
from pe_unified.evaluation.metrics import (
    UNKNOWN,
    PatientMetric,
    boxes_as_array,
    patient_of,
    prediction_of,
)
from pe_unified.evaluation.tables import IntArray, index_patients, sum_by_patient
from pe_unified.registry import METRICS
from pe_unified.tasks import TASKS


@dataclass(frozen=True)
class LungBoxTable(detection.DetTable):
    """Boxes of a split, and the emboli of its studies.

    Fields:
        slice_study: int64 (slices,), index of the study.
        best: float64 (slices, 4), x1 y1 x2 y2, the best box of each slice; NaN without one.
        best_score: float64 (slices,), its score; -inf without one.
        study_patient: int64 (studies,), index into ``patients``.
        shape: int64 (studies, 2), rows and columns of a slice.
        margin: float64 (studies, 2), rows and columns that a crop adds on every side.
        embolus_study: int64 (pixels,), index of the study of every embolus pixel.
        embolus: int64 (pixels, 2), row and column of the pixel.
    """

    slice_study: IntArray
    best: FloatArray
    best_score: FloatArray
    study_patient: IntArray
    shape: IntArray
    margin: FloatArray
    embolus_study: IntArray
    embolus: IntArray

    def statistic(self, threshold: float) -> Statistic:
        """Metrics of boxes, and ``embolus_share``: the share of embolus pixels inside the crop.

        The crop of a study is the one that inference makes from its boxes with at least the
        threshold. A study without such boxes is not cropped.
        """
        boxes = super().statistic(threshold)
        inside = np.ones(len(self.embolus), dtype=bool)
        for study in np.unique(self.embolus_study):
            own = (self.slice_study == study) & (self.best_score >= threshold)
            if not own.any():
                continue
            x, y, wide, high = crop_of_boxes(self.best[own], self.shape[study], self.margin[study])
            here = self.embolus_study == study
            rows, cols = self.embolus[here].T
            inside[here] = (rows >= y) & (rows < y + high) & (cols >= x) & (cols < x + wide)
        cells = np.stack([inside, np.ones(len(inside))], axis=1)
        patient = self.study_patient[self.embolus_study]
        by_patient = sum_by_patient(cells, patient, len(self.patients))

        def statistic(weights: FloatArray) -> dict[str, FloatArray]:
            kept, total = (weights @ by_patient).T
            return {**boxes(weights), "embolus_share": ratio(kept, total)}

        return statistic


@METRICS.register_module()
class LungBoxMetric(PatientMetric[LungBoxTable]):
    """``lung_box/mAP, mAP_50, precision, recall, mean_iou, embolus_share`` of lung boxes.

    Like :class:`~pe_unified.evaluation.metrics.DetMetric`; for ``embolus_share`` see
    :meth:`LungBoxTable.statistic`.
    """

    default_prefix, table_type = "lung_box", LungBoxTable

    @property
    def keys(self) -> tuple[str, ...]:
        return (*TASKS["det"].metrics, "embolus_share")

    def read(self, sample: Mapping[str, Any]) -> tuple:
        if "gt_instances" not in sample:
            return UNKNOWN
        predicted = prediction_of(sample, "pred_instances")
        boxes, scores = (boxes_as_array(predicted[key]) for key in ("bboxes", "scores"))
        matches = detection.match_slice(
            boxes_as_array(sample["gt_instances"]["bboxes"]), boxes, scores
        )
        best = int(scores.argmax()) if len(scores) else None
        spacing = sample.get("spacing_mm") or (None, None)
        shape = tuple(int(side) for side in sample["ori_shape"])
        margin = [LUNG_MARGIN_MM / (side or 360.0 / shape[1]) for side in spacing[:2]]
        masks = [coco_mask.decode(rle).astype(bool) for rle in sample.get("emboli") or ()]
        emboli = np.argwhere(np.any(masks, axis=0)) if masks else np.empty((0, 2), np.int64)
        return (
            patient_of(sample),
            matches,
            (patient_of(sample), str(sample.get("study_uid")), str(sample.get("series_uid"))),
            np.full(4, np.nan) if best is None else boxes[best],
            -np.inf if best is None else float(scores[best]),
            shape,
            margin,
            emboli.astype(np.int16),
        )

    def build(self, rows: list[tuple]) -> LungBoxTable:
        patients, matches, studies, best, scores, shapes, margins, emboli = zip(*rows)
        base = detection.DetTable.build(list(patients), list(matches))
        names, slice_study = index_patients("\n".join(study) for study in studies)
        first = [int(np.flatnonzero(slice_study == number)[0]) for number in range(len(names))]
        place = {patient: number for number, patient in enumerate(base.patients)}
        counts = [len(own) for own in emboli]
        return LungBoxTable(
            **vars(base),
            slice_study=slice_study,
            best=np.array(best),
            best_score=np.array(scores),
            study_patient=np.array([place[patients[row]] for row in first]),
            shape=np.array([shapes[row] for row in first]),
            margin=np.array([margins[row] for row in first]),
            embolus_study=np.repeat(slice_study, counts),
            embolus=np.concatenate(emboli).astype(np.int64),
        )

    def choose(self, table: LungBoxTable) -> float | None:
        return detection.choose_threshold(table)

    def statistic(self, table: LungBoxTable, threshold: float) -> Statistic:
        return table.statistic(threshold)
