"""Answered exams, and answered slices of exams, as models leave them."""

from collections.abc import Sequence

import torch
from mmengine.structures import BaseDataElement

from pe_unified.ct.exam_labels import EXAM_WEIGHTS
from pe_unified.datasets.data_sample import PEDataSample

POSITIVE = {"central_pe": 1, "rv_lv_ratio_lt_1": 1}


def answered_exam(
    index: int, positive: bool, score: float, steps: int = 4, **fields
) -> BaseDataElement:
    """An exam of patient ``index``, known and answered in full.

    Every label that is on is answered with ``score``, every other one with ``1 - score``.
    ``fields`` replace its own; None takes one away.
    """
    on = {"negative_exam_for_pe": 1} if not positive else POSITIVE
    label = torch.tensor([float(positive), *(float(on.get(name, 0)) for name in EXAM_WEIGHTS)])
    step_label = torch.zeros(steps)
    step_label[: steps // 2] = float(positive)
    sample = BaseDataElement(
        metainfo={
            "patient_id": f"P{index:02d}",
            "study_uid": f"1.2.{index}",
            "step_ids": [f"1.2.{index}.{step}" for step in range(steps)],
            "z_mm": [2.5 * step for step in range(steps)],
        }
    )
    own = {
        "gt_exam": label,
        "gt_steps": step_label,
        "pred_exam": torch.where(label == 1, score, 1 - score),
        "pred_steps": torch.where(step_label == 1, score, 1 - score),
    }
    for name, value in {**own, **fields}.items():
        if value is not None:
            sample.set_data({name: value})
    return sample


def answered_slices(
    patient: str, scores: Sequence[float], labels: Sequence[int | None], **meta
) -> list[PEDataSample]:
    """Slices of one exam, 2 mm apart from the lowest up."""
    samples = []
    for index, (score, label) in enumerate(zip(scores, labels)):
        own = {"patient_id": patient, "study_uid": f"study {patient}", "z_mm": 2.0 * index}
        sample = PEDataSample(metainfo={**own, **meta})
        if label is not None:
            sample.set_gt_label(label)
        sample.pred_score = torch.tensor([1 - score, score])
        samples.append(sample)
    return samples
