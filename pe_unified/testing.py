"""Tiny models and batches for tests."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from pe_unified.config_files import CONFIGS
from pe_unified.datasets.data_sample import PEDataSample

_BACKBONES: dict[str, dict[str, Any]] = {
    "resnet": dict(type="pe_unified.PEResNet", depth=18, base_channels=16),
    "swin": dict(
        type="pe_unified.PESwin",
        embed_dims=16,
        depths=(1, 1, 2, 1),
        num_heads=(1, 2, 2, 4),
        window_size=4,
        drop_path_rate=0.0,
    ),
}

_HEADS: dict[str, dict[str, Any]] = {
    "cls": dict(type="pe_unified.PEClsHead", pool="avg+max", levels=(-2, -1)),
    "seg": dict(
        type="pe_unified.PESegHead",
        decoder=dict(channels=(24, 16, 16, 8), skip_channels=16, detail_channels=8),
    ),
}

#: Settings that make the detection branch of configs/_base_/models/heads.py small.
_SMALL_DETECTION: dict[str, Any] = dict(
    neck=dict(out_channels=24),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(output_size=5)),
        bbox_head=dict(fc_out_channels=32),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=200, max_per_img=50), rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=32)),
)


def usual_det_head(*changes: Mapping[str, Any]) -> dict[str, Any]:
    """Config of the detection branch from the base config, with changes merged in turn."""
    head = Config(Config.fromfile(CONFIGS / "_base_/models/heads.py").model.det_head.to_dict())
    for each in changes:
        head.merge_from_dict(dict(each))
    return {**head.to_dict(), "type": "pe_unified.PEDetHead"}


def tiny_model_config(
    heads: Sequence[str] = ("cls", "seg", "det"), backbone: str = "resnet"
) -> dict[str, Any]:
    """Config of a PEUnified that trains in milliseconds.

    Args:
        heads: any of ``"cls"``, ``"seg"``, ``"det"``.
        backbone: ``"resnet"`` or ``"swin"``.
    """
    return dict(
        type="pe_unified.PEUnified",
        data_preprocessor=dict(
            type="pe_unified.PEDataPreprocessor",
            mean=(127.5, 127.5, 127.5),
            std=(64.0, 64.0, 64.0),
        ),
        backbone=deepcopy(_BACKBONES[backbone]),
        **{f"{head}_head": _tiny_head(head) for head in heads},
    )


def _tiny_head(task: str) -> dict[str, Any]:
    return usual_det_head(_SMALL_DETECTION) if task == "det" else deepcopy(_HEADS[task])


def tiny_batch(
    size: tuple[int, int] | Sequence[tuple[int, int]] = (64, 64),
    batch_size: int = 2,
    labels: Sequence[Sequence[str]] | Sequence[str] = ("cls", "seg", "det"),
    positive: Sequence[bool] | None = None,
    seed: int = 0,
) -> dict[str, list]:
    """A batch as the loader gives it: bright discs on noise, with exact labels.

    Args:
        size: (rows, cols) of every slice, or one pair per slice.
        batch_size: number of slices.
        labels: labels of every sample, any of ``"cls"``, ``"seg"``, ``"det"``, or one
            such tuple per sample.
        positive: whether each slice has discs; if None, every other one, starting with the
            first.
        seed: of the noise and the discs.

    Returns:
        ``inputs``: list of uint8 (3, rows, cols); ``data_samples``: list of PEDataSample.
    """
    rng = np.random.default_rng(seed)
    sizes = [size] * batch_size if isinstance(size[0], int) else list(size)
    known = [labels] * batch_size if all(isinstance(one, str) for one in labels) else list(labels)
    flags = [i % 2 == 0 for i in range(batch_size)] if positive is None else list(positive)
    inputs, samples = [], []
    for index, ((rows, cols), tasks, has_disc) in enumerate(zip(sizes, known, flags)):
        image = rng.normal(90, 12, (3, rows, cols))
        mask = np.zeros((rows, cols), dtype=np.uint8)
        boxes = _paint_discs(image, mask, rng) if has_disc else []
        sample = PEDataSample(
            metainfo=dict(
                img_id=index + 1,
                img_path=f"images/tiny/{index:04d}.png",
                patient_id=f"tiny{index}",
                ori_shape=(rows, cols),
                img_shape=(rows, cols),
                crop_box=(0, 0, cols, rows),
                scale_factor=(1.0, 1.0),
            )
        )
        if "cls" in tasks:
            sample.set_gt_label(int(has_disc))
        if "seg" in tasks:
            sample.set_gt_sem_seg(torch.from_numpy(mask))
        if "det" in tasks:
            sample.set_gt_boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        inputs.append(torch.from_numpy(image.clip(0, 255).astype(np.uint8)))
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def _paint_discs(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
    """Paint one disc into each of two opposite quarters; returns boxes x1 y1 x2 y2."""
    rows, cols = mask.shape
    y, x = np.mgrid[:rows, :cols]
    boxes = []
    for row_share, col_share in ((0.3, 0.3), (0.7, 0.7)):
        radius = int(rng.integers(4, max(5, min(rows, cols) // 8)))
        centre = (
            int(rows * row_share + rng.integers(-2, 3)),
            int(cols * col_share + rng.integers(-2, 3)),
        )
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
        image[:, disc] += 110
        mask[disc] = 1
        boxes.append(
            [
                centre[1] - radius,
                centre[0] - radius,
                centre[1] + radius + 1,
                centre[0] + radius + 1,
            ]
        )
    return boxes
