"""The networks that the benchmarks compare."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

import pe_unified.models  # noqa: F401  (registers the parts)
from pe_unified.config_files import CONFIGS
from pe_unified.engine import load_config
from pe_unified.registry import MODELS

BACKBONES = {"R50": dict(type="PEResNet", depth=50), "Swin-T": dict(type="PESwin")}
#: Prior of embolus pixels. With the prior of rare emboli, logits of an untrained decoder differ by
#: less than bfloat16 resolves, and nothing could be compared.
UNTRAINED_PRIOR = 0.5


def unified_config(
    backbone: dict[str, Any], small_lesions: bool = False, own_heads: bool = False
) -> dict[str, Any]:
    """Config of a PEUnified with three heads.

    Args:
        backbone: its config.
        small_lesions: our settings of Faster R-CNN, for emboli, instead of mmdet's.
        own_heads: classification with max pooling, too, and a decoder that also reads the image,
            which the stock frameworks cannot express.
    """
    return dict(
        type="PEUnified",
        data_preprocessor=dict(type="PEDataPreprocessor", channels_last=True),
        backbone=backbone,
        cls_head=dict(type="PEClsHead", pool="avg+max" if own_heads else "avg"),
        seg_head=dict(type="PESegHead", decoder=dict(detail_channels=16) if own_heads else {}),
        det_head=detection(small_lesions),
    )


def detection(small_lesions: bool) -> dict[str, Any]:
    """Config of the detection branch: ours for emboli, or with mmdet's own settings."""
    name = "_base_/models/heads.py" if small_lesions else "ablations/det_r50_stock.py"
    return Config.fromfile(CONFIGS / name).model.det_head.to_dict()


def untrained_checkpoint(backbone: dict[str, Any], folder: Path) -> Path:
    """An untrained checkpoint of configs/benchmarks/study_r50.py, with the given backbone.

    Input 384 x 512, as published in docs/performance.md; no thresholds, so no gate.
    """
    cfg = load_config("benchmarks/study_r50", {"input_size": (384, 512)})
    cfg.model.backbone = backbone
    cfg.model.seg_head.prior = UNTRAINED_PRIOR
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("pe_unified"):
        weights = MODELS.build(cfg.model).state_dict()
    path = folder / "untrained.pth"
    torch.save({"meta": {"cfg": cfg.to_dict()}, "state_dict": weights}, path)
    return path
