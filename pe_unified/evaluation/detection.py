"""Detection of embolus boxes: COCO average precision, and metrics at one threshold.

The average precision is that of COCO (all areas, 100 detections per slice, IoU 0.50:0.05:0.95, 101
recall points, as in pycocotools), as a function of patient weights: slices are matched once, and a
subset of the patients only changes the weights of the matches.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pe_unified.evaluation.intervals import FloatArray, Statistic, ratio
from pe_unified.evaluation.tables import IntArray, Table, index_patients, sum_by_patient

#: IoU thresholds of COCO; precision, recall and mean IoU use the first one, 0.5.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: Recall points of COCO.
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
#: Largest number of detections per slice, best first, as in COCO.
MAX_DETECTIONS = 100


def box_iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """IoU of every pair: x1 y1 x2 y2 (n, 4) and (m, 4) to (n, m); x2, y2 exclusive."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = np.clip(high - low, 0.0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return ratio(overlap, areas[0][:, None] + areas[1][None, :] - overlap)


@dataclass(frozen=True)
class SliceMatches:
    """Detections of one slice, best score first, matched with its boxes.

    Fields:
        score: float64 (detections,).
        matched: bool (10, detections), whether it is a true positive, per IoU threshold.
        iou: float64 (detections,), IoU with the box matched at 0.5; 0 without a match.
        boxes: number of reference boxes.
    """

    score: FloatArray
    matched: NDArray[np.bool_]
    iou: FloatArray
    boxes: int


def match_slice(boxes: ArrayLike, detections: ArrayLike, scores: ArrayLike) -> SliceMatches:
    """Match like COCO: best score first, each takes the free box it overlaps most.

    Args:
        boxes: (n, 4) reference, x1 y1 x2 y2.
        detections: (m, 4) predicted, x1 y1 x2 y2.
        scores: (m,).
    """
    reference = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    predicted = np.asarray(detections, dtype=np.float64).reshape(-1, 4)
    score = np.asarray(scores, dtype=np.float64).reshape(-1)
    if len(predicted) != len(score):
        raise ValueError(f"{len(predicted)} detections with {len(score)} scores")
    if np.isnan(score).any():
        raise ValueError("a detection's score is NaN; the model has diverged")
    order = np.argsort(-score, kind="stable")[:MAX_DETECTIONS]
    predicted, score = predicted[order], score[order]
    matched = np.zeros((len(IOU_THRESHOLDS), len(score)), dtype=bool)
    matched_iou = np.zeros(len(score))
    if len(reference) and len(score):
        overlap = np.nan_to_num(box_iou(predicted, reference))
        free = np.ones((len(IOU_THRESHOLDS), len(reference)), dtype=bool)
        levels = np.arange(len(IOU_THRESHOLDS))
        for detection in np.flatnonzero(overlap.max(axis=1) >= IOU_THRESHOLDS[0]):
            near = overlap[detection]
            candidates = np.where(free & (near >= IOU_THRESHOLDS[:, None]), near, -1.0)
            # Of equal overlaps, COCO takes the last.
            taken = len(near) - 1 - np.argmax(candidates[:, ::-1], axis=1)
            hit = candidates[levels, taken] >= 0
            free[levels[hit], taken[hit]] = False
            matched[:, detection] = hit
            if hit[0]:
                matched_iou[detection] = near[taken[0]]
    return SliceMatches(score, matched, matched_iou, len(reference))


@dataclass(frozen=True)
class DetTable(Table):
    """Detections of a split, best score first, and the boxes of each patient.

    Fields:
        patient: int64 (detections,), index into ``patients``.
        score: float64 (detections,).
        matched: bool (10, detections), per IoU threshold.
        iou: float64 (detections,), with the box matched at IoU 0.5; 0 without a match.
        boxes: int64 (patients,), reference boxes.
        slices: int64 (patients,), evaluated slices.
    """

    patient: IntArray
    score: FloatArray
    matched: NDArray[np.bool_]
    iou: FloatArray
    boxes: IntArray
    slices: IntArray

    @classmethod
    def build(cls, patient_ids: list[str], matches: list[SliceMatches]) -> "DetTable":
        patients, slice_patient = index_patients(patient_ids)
        lengths = [len(match.score) for match in matches]
        score = np.concatenate([match.score for match in matches])
        order = np.argsort(-score, kind="stable")
        boxes, slices = (np.zeros(len(patients), dtype=np.int64) for _ in range(2))
        np.add.at(boxes, slice_patient, [match.boxes for match in matches])
        np.add.at(slices, slice_patient, 1)
        return cls(
            patients=patients,
            patient=np.repeat(slice_patient, lengths)[order],
            score=score[order],
            matched=np.concatenate([match.matched for match in matches], axis=1)[:, order],
            iou=np.concatenate([match.iou for match in matches])[order],
            boxes=boxes,
            slices=slices,
        )

    def statistic(self, threshold: float) -> Statistic:
        """mAP, mAP_50; precision, recall and mean_iou at IoU 0.5 and score >= threshold.

        mean_iou is the mean over true positives. All are undefined without a reference box,
        precision also without a detection, mean_iou without a true positive.
        """
        kept = self.score >= threshold
        hit = self.matched[0] & kept
        cells = np.stack([hit, kept, np.where(hit, self.iou, 0.0)], axis=1)
        by_patient = sum_by_patient(cells, self.patient, len(self.patients))
        precision = WeightedAveragePrecision(self)

        def statistic(weights: FloatArray) -> dict[str, FloatArray]:
            boxes = weights @ self.boxes
            tp, called, iou = (weights @ by_patient).T
            average = precision(weights)
            return {
                "mAP": average.mean(axis=1),
                "mAP_50": average[:, 0],
                "precision": np.where(boxes > 0, ratio(tp, called), np.nan),
                "recall": ratio(tp, boxes),
                "mean_iou": ratio(iou, tp),
            }

        return statistic


class WeightedAveragePrecision:
    """COCO's average precision at each IoU threshold as a function of patient weights.

    Precision only rises at a true positive, so the curve is computed only there.
    """

    def __init__(self, table: DetTable) -> None:
        self._patient = table.patient
        self._boxes = table.boxes
        self._hits = [np.flatnonzero(row) for row in table.matched]

    def __call__(self, weights: FloatArray) -> FloatArray:
        """``weights`` (subsets, patients) to (subsets, 10); NaN without a box."""
        average = np.full((len(weights), len(self._hits)), np.nan)
        for row, weight in enumerate(weights):
            boxes = float(weight @ self._boxes)
            if boxes == 0:
                continue
            by_detection = weight[self._patient]
            called = np.cumsum(by_detection)
            for level, hits in enumerate(self._hits):
                tp = np.cumsum(by_detection[hits])
                precision = tp / (called[hits] + np.spacing(1))
                envelope = np.maximum.accumulate(precision[::-1])[::-1]
                first = np.searchsorted(tp / boxes, RECALL_POINTS, side="left")
                reached = first < len(tp)
                average[row, level] = envelope[first[reached]].sum() / len(RECALL_POINTS)
        return average


def precision_recall_points(table: DetTable) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Recall, precision and score threshold at IoU 0.5, one point per distinct score.

    Each (points,), by descending score; recall is NaN without a reference box.
    """
    last = np.flatnonzero(np.diff(table.score, append=-np.inf))
    tp = np.cumsum(table.matched[0])[last].astype(np.float64)
    recall = ratio(tp, np.array([float(table.boxes.sum())]))
    return recall, tp / (last + 1), table.score[last]


def choose_threshold(table: DetTable) -> float | None:
    """The score with the best F1 at IoU 0.5; None without a true positive on this split.

    It is halfway between the lowest score kept and the next one below. Of equally good thresholds
    the most sensitive is taken.
    """
    recall, precision, scores = precision_recall_points(table)
    if not np.any(table.matched[0]):
        return None
    merit = ratio(2 * recall * precision, recall + precision)
    best = int(np.flatnonzero(np.isclose(merit, np.nanmax(merit), atol=1e-12))[-1])
    chosen = scores[best]
    if best + 1 < len(scores):
        chosen = (chosen + scores[best + 1]) / 2
    return float(chosen)
