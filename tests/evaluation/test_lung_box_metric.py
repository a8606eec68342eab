"""What a crop to the lungs leaves of the emboli, by hand."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from pe_unified.evaluation.lung_boxes import LungBoxMetric
from pe_unified.evaluation.metrics import DetMetric


def sample(patient, box, score, embolus=None, truth=(8, 8, 24, 24), study="s"):
    mask = np.zeros((32, 32), np.uint8, order="F")
    if embolus is not None:
        row, col, size = embolus
        mask[row : row + size, col : col + size] = 1
    boxes = torch.tensor([box] if box else [], dtype=torch.float32).reshape(-1, 4)
    return {
        "patient_id": patient,
        "study_uid": study,
        "series_uid": "1",
        "ori_shape": (32, 32),
        "spacing_mm": (6.0, 6.0, 3.0),  # a margin of one pixel
        "emboli": [coco_mask.encode(mask)],
        "gt_instances": {"bboxes": torch.tensor([truth], dtype=torch.float32)},
        "pred_instances": {
            "bboxes": boxes,
            "scores": torch.full((len(boxes),), score),
        },
    }


def evaluate(samples, kind=LungBoxMetric, **options):
    metric = kind(resamples=0, **options)
    metric.process(None, samples)
    return metric.evaluate(len(samples)), metric


def test_pixels_of_emboli_in_the_crop_of_their_study():
    samples = [
        sample("a", [8, 8, 20, 20], 0.9, embolus=(18, 18, 4)),  # 3 x 3 of 16 within one of margin
        sample("a", [8, 8, 20, 20], 0.2, embolus=(8, 8, 2)),
        sample("b", [0, 0, 4, 4], 0.3, embolus=(20, 20, 4)),  # all cut off
    ]
    found, metric = evaluate(samples, threshold=0.25)
    assert found["lung_box/embolus_share"] == pytest.approx((9 + 4 + 0) / (16 + 4 + 16))
    # Below the threshold there is no crop, which cuts nothing off.
    found, _ = evaluate(samples, threshold=0.5)
    assert found["lung_box/embolus_share"] == pytest.approx((9 + 4 + 16) / 36)
    assert metric.table.patients == ("a", "b") and len(metric.table.embolus) == 36


def test_boxes_are_measured_as_those_of_emboli_are():
    rng = np.random.default_rng(0)
    samples = [
        sample(f"p{k % 3}", [8 + d, 8, 24 + d, 24], float(s), study=f"s{k % 3}")
        for k, (d, s) in enumerate(zip(rng.integers(-6, 7, 12), rng.random(12)))
    ]
    samples.append(sample("p0", None, 0.0))
    own, _ = evaluate(samples)
    det, _ = evaluate(samples, DetMetric)
    for key in ("mAP", "mAP_50", "precision", "recall", "mean_iou", "threshold"):
        assert own[f"lung_box/{key}"] == det[f"det/{key}"]
    assert np.isnan(own["lung_box/embolus_share"])  # no embolus


def test_slices_of_which_lung_is_unknown_do_not_count():
    samples = [sample("a", [8, 8, 24, 24], 0.9)]
    del samples[0]["gt_instances"]
    found, metric = evaluate(samples)
    assert metric.table is None and np.isnan(found["lung_box/embolus_share"])
