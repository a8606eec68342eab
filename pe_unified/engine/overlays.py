"""Keep a few predicted slices of a test for visual inspection."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from pe_unified.evaluation.figures import SliceView, montage_figure
from pe_unified.registry import HOOKS


@HOOKS.register_module()
class KeepViewsHook(Hook):
    """Keep one positive and one negative slice of every test patient.

    These are the positive slice with the most embolus and the negative slice that the model finds
    most suspicious. The choice never favours good answers of the model.

    Args:
        patients: at most this many patients, in the order of the split.
    """

    priority = "LOW"

    def __init__(self, patients: int = 6) -> None:
        self.patients = patients
        self.kept: dict[tuple[str, bool], tuple[float, BaseDataElement]] = {}

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        for sample in outputs or ():
            seen = {patient for patient, _ in self.kept}
            if sample.patient_id not in seen and len(seen) >= self.patients:
                continue
            for positive, rank in _ranks(sample):
                key = (sample.patient_id, positive)
                if key not in self.kept or rank > self.kept[key][0]:
                    self.kept[key] = (rank, sample.cpu())

    def draw(self, path: Path, thresholds: Mapping[str, float], note: str) -> None:
        """Draw the kept slices; draws nothing if the test had no labelled slice."""
        views = [
            SliceView.of_sample(
                sample,
                seg_threshold=thresholds.get("seg/threshold", 0.5),
                det_threshold=thresholds.get("det/threshold", 0.5),
            )
            for _, (_, sample) in sorted(self.kept.items())
        ]
        if views:
            montage_figure(views, path, note=note)


def _ranks(sample: BaseDataElement) -> list[tuple[bool, float]]:
    """Whether the slice is positive, and its rank among such slices; empty if unknown."""
    if "gt_label" not in sample:
        return []
    positive = bool(sample.gt_label.item())
    if positive:
        if "gt_sem_seg" in sample:
            return [(True, float(sample.gt_sem_seg.data.sum()))]
        return [(True, 0.0)]
    suspicion = 0.0
    if "pred_score" in sample:
        suspicion = float(sample.pred_score[1])
    elif "seg_prob" in sample:
        suspicion = float(sample.seg_prob.data.max())
    elif "pred_instances" in sample and len(sample.pred_instances.scores):
        suspicion = float(torch.max(sample.pred_instances.scores))
    return [(False, suspicion)]
