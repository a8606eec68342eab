"""The same parts in the stock frameworks: mmpretrain, mmseg and mmdet models.

For comparison (`pe-unified benchmark`) and for using a trained model elsewhere: the stock models
have the same layers, so weights can be copied one to one.
"""

from collections.abc import Mapping
from typing import Any

import mmseg.models  # noqa: F401  (all three packages register their parts)
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from torch import nn

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.models.backbones.pretrained import SWIN_FRESH
from pe_unified.models.heads.det_parts import completed_parts
from pe_unified.models.slice_model import PEUnified
from pe_unified.models.weights import ReuseReport, take_over
from pe_unified.registry import MODELS

#: Module of the stock model -> module of PEUnified, by task.
_SAME_MODULES = {
    "cls": {"backbone": "backbone", "head.fc": "cls_head.fc"},
    "seg": {
        "backbone": "backbone",
        "decode_head.decoder": "seg_head.decoder",
        "decode_head.conv_seg": "seg_head.conv_seg",
    },
    "det": {
        "backbone": "backbone",
        "neck": "det_head.neck",
        "rpn_head": "det_head.rpn_head",
        "roi_head": "det_head.roi_head",
    },
}


def stock_models(config: Mapping[str, Any]) -> dict[str, BaseModel]:
    """Build the stock model of every task that a PEUnified config has.

    Args:
        config: config of a PEUnified with ``pool="avg"`` on the last level and a UNet without
            ``detail_channels``; the stock frameworks support nothing else.

    Returns:
        By task: an mmpretrain ``ImageClassifier``, an mmseg ``EncoderDecoder``, an mmdet
        ``FasterRCNN``, with mmpretrain's own backbone.
    """
    backbone = _stock_backbone(config["backbone"])
    levels = MODELS.build(_without_weights(config["backbone"])).feature_info
    built = {}
    for task, make in (("cls", _classifier), ("seg", _segmentor), ("det", _detector)):
        head = config.get(f"{task}_head")
        if head is not None:
            options = {key: value for key, value in head.items() if key != "type"}
            built[task] = _build(make(backbone, levels, options))
    return built


def copy_to_stock(model: PEUnified, stock: nn.Module, task: str) -> list[ReuseReport]:
    """Copy the weights of a task, including the backbone, strictly into its stock model."""
    reports = []
    for theirs, ours in _SAME_MODULES[task].items():
        tensors = model.get_submodule(ours).state_dict()
        if task == "cls" and ours == "backbone":  # the classifier norms only the last output
            tensors = {key: tensors[key] for key in tensors if not key.startswith(SWIN_FRESH)}
        reports.append(take_over(stock.get_submodule(theirs), tensors, theirs, ours))
    return reports


def _without_weights(backbone: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in backbone.items() if key != "pretrained"}


def _stock_backbone(config: Mapping[str, Any]) -> dict[str, Any]:
    options = _without_weights(config)
    kind = options.pop("type").removeprefix("pe_unified.")
    options["out_indices"] = (0, 1, 2, 3)
    if kind == "PEResNet":
        width = options.get("base_channels", 64)
        return dict(type="mmpretrain.ResNet", **{"stem_channels": width, **options})
    if kind != "PESwin":
        raise ValueError(f"the stock frameworks have no {kind}; take PEResNet or PESwin")
    arch = dict(
        embed_dims=options.pop("embed_dims", 96),
        depths=list(options.pop("depths", (2, 2, 6, 2))),
        num_heads=list(options.pop("num_heads", (3, 6, 12, 24))),
    )
    return dict(type="mmpretrain.SwinTransformer", arch=arch, pad_small_map=True, **options)


def _classifier(backbone: dict, levels: Any, head: Mapping[str, Any]) -> dict[str, Any]:
    if head.get("pool", "avg") != "avg" or tuple(head.get("levels", (-1,))) != (-1,):
        raise ValueError("cls_head: mmpretrain's classifier pools the last level by 'avg' only")
    return dict(
        type="mmpretrain.ImageClassifier",
        backbone={**backbone, "out_indices": (3,)},
        neck=dict(type="mmpretrain.GlobalAveragePooling"),
        head=dict(
            type="mmpretrain.LinearClsHead",
            num_classes=2,
            in_channels=levels.channels[-1],
            loss=dict(type="mmpretrain.CrossEntropyLoss"),
        ),
    )


def _segmentor(backbone: dict, levels: Any, head: Mapping[str, Any]) -> dict[str, Any]:
    return dict(
        type="mmseg.EncoderDecoder",
        backbone=backbone,
        decode_head=dict(
            type="pe_unified.PEUNetDecodeHead",
            in_channels=levels.channels,
            in_strides=levels.strides,
            decoder=_unet(head.get("decoder") or {}),
            threshold=head.get("threshold", 0.5),
        ),
        train_cfg=dict(),
        test_cfg=dict(mode="whole"),
    )


def _unet(decoder: Mapping[str, Any]) -> dict[str, Any]:
    kind = decoder.get("type", "UNetDecoder").rpartition(".")[2]
    if kind != "UNetDecoder":
        raise ValueError(f"seg_head: mmseg gets a UNetDecoder here, not a {kind}")
    return {key: value for key, value in decoder.items() if key != "type"}


def _detector(backbone: dict, levels: Any, head: Mapping[str, Any]) -> dict[str, Any]:
    rest = dict(head)
    runs = {name: rest.pop(name) for name in ("train_cfg", "test_cfg")}
    rest.setdefault("levels", 4)
    parts = completed_parts(levels.channels, levels.strides, **rest)
    return dict(type="mmdet.FasterRCNN", backbone=backbone, **parts, **runs)


def _build(config: dict[str, Any]) -> BaseModel:
    scope = config["type"].partition(".")[0]
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(ConfigDict(config))
    # Set afterwards: mmpretrain adds its own options to the config of any preprocessor.
    model.data_preprocessor = MODELS.build(dict(type="pe_unified.PEDataPreprocessor"))
    return model


def stock_batch(batch: Mapping[str, list], task: str) -> dict[str, list]:
    """A loader's batch in the form that the stock model of a task takes, with new samples.

    mmdet takes :class:`~pe_unified.datasets.data_sample.PEDataSample` as it is; mmseg needs int64
    masks; mmpretrain sets its predictions through methods of its own class.
    """
    samples = [sample.new() for sample in batch["data_samples"]]
    if task == "cls":
        samples = [_for_mmpretrain(sample) for sample in samples]
    elif task == "seg":
        for sample in samples:
            if "gt_sem_seg" in sample:
                sample.set_gt_sem_seg(sample.gt_sem_seg.data[0].long())
    return {"inputs": list(batch["inputs"]), "data_samples": samples}


def _for_mmpretrain(sample: PEDataSample) -> DataSample:
    converted = DataSample(metainfo=sample.metainfo)
    if "gt_label" in sample:
        converted.set_gt_label(sample.gt_label)
    return converted


def largest_difference(
    model: PEUnified, stock: Mapping[str, nn.Module], batch: Mapping[str, list]
) -> float:
    """Largest absolute difference between the predictions of models with equal weights.

    Over class probabilities, embolus probability maps, and the detector's boxes (in pixels) and
    scores; infinite if the numbers of detections differ.
    """
    differences = [0.0]
    with torch.inference_mode():
        ours = model.test_step(stock_batch(batch, "det"))
        for task, other in stock.items():
            for mine, its in zip(ours, other.test_step(stock_batch(batch, task))):
                for a, b in _comparable(mine, its, task):
                    if a.shape != b.shape:
                        return float("inf")
                    differences += [float((a - b).abs().max())] if a.numel() else []
    return max(differences)


def _comparable(mine: Any, its: Any, task: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    if task == "cls":
        return [(mine.pred_score, its.pred_score)]
    if task == "seg":
        return [(mine.seg_prob.data, its.seg_logits.data)]  # mmseg's are after the sigmoid
    a, b = mine.pred_instances, its.pred_instances
    return [(a.bboxes, b.bboxes), (a.scores, b.scores)]


def as_channels_last(model: nn.Module) -> nn.Module:
    """The model in channels-last, its preprocessor included."""
    model.data_preprocessor.memory_format = torch.channels_last
    return model.to(memory_format=torch.channels_last)
