"""Volume metrics for mmengine's loops; the computation is in ``volumes.py``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pe_unified.evaluation import segmentation
from pe_unified.evaluation.froc import SMALLEST_MM3, mark_distances
from pe_unified.evaluation.intervals import Statistic
from pe_unified.evaluation.metrics import (
    UNKNOWN,
    PatientMetric,
    SegMetric,
    patient_of,
    prediction_of,
)
from pe_unified.evaluation.volumes import ScanMarks, VolumeTable
from pe_unified.registry import METRICS


@METRICS.register_module()
class LesionMetric(PatientMetric[VolumeTable]):
    """``lesion/sensitivity_at_1, ..., mean_sensitivity, dice`` over studies with ``gt_lesions``.

    Emboli are as numbered by the set, else 26-connected components. A mark finds an embolus if it
    is inside it (or within 2 or 5 mm of it); a second mark on it is neither true nor false. Dice
    counts voxels of the grid; emboli outside it count as missed. The threshold is for the Dice; the
    chosen one maximises it. Marks use the model's own cut.

    Args:
        smallest_mm3: smaller emboli and marks on them are not counted.
    """

    default_prefix, table_type = "lesion", VolumeTable
    counted = "studies"

    def __init__(self, smallest_mm3: float = SMALLEST_MM3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.threshold is not None:
            segmentation.threshold_bin(self.threshold)  # raises if it is out of range
        self.smallest_mm3 = smallest_mm3

    def read(self, sample: Mapping[str, Any]) -> tuple:
        if "gt_lesions" not in sample:
            return UNKNOWN
        lesions, grid = sample["gt_lesions"], sample["grid"]
        marks = torch.as_tensor(prediction_of(sample, "pred_marks")).double().numpy()
        points = grid.indices(marks[:, :3]) - np.array(lesions.start)
        voxels = np.bincount(lesions.instances.ravel())[1:]
        voxel_mm3 = float(np.prod(lesions.spacing_mm))
        counts = segmentation.probability_histogram(
            prediction_of(sample, "pred_lesion"), sample["gt_lesion"][0]
        )
        outside = np.count_nonzero(~grid.held(lesions.points()))
        counts[1, 0] += round(outside * voxel_mm3 / grid.step_mm**3)
        scan = ScanMarks(
            patient=patient_of(sample),
            counts=counts,
            confidences=marks[:, 3],
            distances=mark_distances(points, lesions.instances, lesions.spacing_mm),
            volumes_mm3=voxels[voxels > 0].astype(np.float64) * voxel_mm3,
        )
        return scan.patient, scan

    def build(self, rows: list[tuple]) -> VolumeTable:
        table = VolumeTable.build([scan for _, scan in rows], self.smallest_mm3)
        small = sum(int((scan.volumes_mm3 < self.smallest_mm3).sum()) for _, scan in rows)
        self._say(
            f"{len(table.best)} emboli are counted, {small} below {self.smallest_mm3:g} cubic mm "
            f"are not; {len(table.confidence)} marks"
        )
        return table

    def choose(self, table: VolumeTable) -> float | None:
        return segmentation.choose_threshold(table.voxels())

    def statistic(self, table: VolumeTable, threshold: float) -> Statistic:
        return table.statistic(threshold)


@METRICS.register_module()
class ArteryMetric(SegMetric):
    """``artery/dice, iou`` over studies with ``gt_artery``, pooled over the voxels of the grid."""

    default_prefix = "artery"
    counted = "studies"

    def read(self, sample: Mapping[str, Any]) -> tuple:
        if "gt_artery" not in sample:
            return UNKNOWN
        found = prediction_of(sample, "pred_artery")
        return patient_of(sample), segmentation.probability_histogram(found, sample["gt_artery"][0])
