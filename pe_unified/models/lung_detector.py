"""Lung detector: a small single-stage detector from mmdet's parts."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import mmdet.models  # noqa: F401  (registers the parts)
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.models.slice_geometry import SliceGeometry
from pe_unified.registry import MODELS

# mmdet's point grids call meshgrid without ``indexing``; today's default is right.
warnings.filterwarnings("ignore", message=r"torch\.meshgrid", module="torch")


@MODELS.register_module()
class LungDetector(BaseModel):
    """Boxes around the lungs, with parts such as RTMDet's (https://arxiv.org/abs/2212.07784).

    Losses and boxes are computed in float32 under any autocast.

    Args:
        backbone, neck: as in a config of a single-stage detector of mmdet, types with their scope.
        bbox_head: likewise, with one class.
        train_cfg, test_cfg: configs of the head.
        data_preprocessor: config.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        neck: Mapping[str, Any],
        bbox_head: Mapping[str, Any],
        train_cfg: Mapping[str, Any],
        test_cfg: Mapping[str, Any],
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = dict(data_preprocessor or {"type": "pe_unified.PEDataPreprocessor"})
        super().__init__(MODELS.build(preprocessor), init_cfg)
        # Default arguments inside mmdet name their parts without a scope.
        with DefaultScope.overwrite_default_scope("mmdet"):
            self.backbone = MODELS.build(ConfigDict(backbone))
            self.neck = MODELS.build(ConfigDict(neck))
            runs = dict(train_cfg=ConfigDict(train_cfg), test_cfg=ConfigDict(test_cfg))
            self.bbox_head = MODELS.build(ConfigDict(bbox_head, **runs))

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[PEDataSample] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Run the model.

        Args:
            inputs: float (n, channels, rows, cols), from the data preprocessor.
            data_samples: one per row; boxes for ``"loss"``, geometry for ``"predict"``.
            mode: ``"tensor"``: the head's maps; ``"loss"``: losses by name; ``"predict"``: the
                samples with ``pred_instances``, in pixels of the stored slice.
        """
        if mode == "tensor":
            return self._maps(inputs)
        if data_samples is None:
            raise ValueError(f"mode '{mode}' needs data_samples")
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        raise ValueError(f"mode is 'tensor', 'loss' or 'predict', got {mode!r}")

    def _maps(self, inputs: Tensor) -> tuple[list[Tensor], ...]:
        maps = self.bbox_head(self.neck(self.backbone(inputs)))
        return tuple([level.float() for level in levels] for levels in maps)

    def loss(self, inputs: Tensor, samples: Sequence[PEDataSample]) -> dict[str, Tensor]:
        """``lung_box_loss_...``, over the samples with known boxes, possibly none."""
        maps = self._maps(inputs)
        known = [row for row, sample in enumerate(samples) if "gt_instances" in sample]
        if not known:
            return {"lung_box_loss_cls": sum(level.sum() for part in maps for level in part) * 0.0}
        own = tuple([level[known] for level in levels] for levels in maps)
        found = self.bbox_head.loss_by_feat(
            *own,
            batch_gt_instances=[samples[row].gt_instances for row in known],
            batch_img_metas=[samples[row].metainfo for row in known],
        )
        return {f"lung_box_{name}": _total(value) for name, value in found.items()}

    def predict(self, inputs: Tensor, samples: Sequence[PEDataSample]) -> list[PEDataSample]:
        """Set ``pred_instances`` of every sample."""
        found = self.bbox_head.predict_by_feat(
            *self._maps(inputs),
            batch_img_metas=[sample.metainfo for sample in samples],
            rescale=False,
        )
        for sample, instances in zip(samples, found):
            boxes = SliceGeometry.of(sample).boxes_to_slice(instances.bboxes.float())
            sample.set_field(
                InstanceData(bboxes=boxes, scores=instances.scores, labels=instances.labels),
                "pred_instances",
            )
        return list(samples)


def _total(loss: Tensor | Sequence[Tensor]) -> Tensor:
    """Sum of a loss that is one tensor, or one per level."""
    return loss.mean() if isinstance(loss, torch.Tensor) else sum(each.mean() for each in loss)
