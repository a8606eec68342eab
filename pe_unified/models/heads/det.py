"""Detection of emboli: mmdet's FPN, RPN and RoI head, composed."""

from collections.abc import Mapping, Sequence
from typing import Any

import mmdet.models  # noqa: F401  (registers the parts)
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.models.heads.det_parts import completed_parts
from pe_unified.models.heads.roi_align import SharedOutRoIAlign
from pe_unified.models.slice_geometry import SliceGeometry
from pe_unified.registry import MODELS


@MODELS.register_module()
class PEDetHead(BaseModule):
    """Faster R-CNN (https://arxiv.org/abs/1506.01497) after the backbone.

    Anchors, box arithmetic, RoIAlign and NMS run in float32 under any autocast: bfloat16
    steps by 2 pixels at coordinates above 256.

    Args:
        in_channels, in_strides: the backbone's levels, finest first.
        neck, rpn_head, roi_head, train_cfg, test_cfg: as in a config of mmdet's ``FasterRCNN``,
            types with their scope (``mmdet.FPN``). Leave out settings that follow from the backbone
            and the neck's ``out_channels``, see
            :func:`~pe_unified.models.heads.det_parts.completed_parts`.
        levels: number of the backbone's levels that the neck reads: 4 for P2 to P5, 3 for P2 to P4.
    """

    loss_names = ("loss_rpn_cls", "loss_rpn_bbox", "loss_roi_cls", "loss_roi_bbox")

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        neck: Mapping[str, Any],
        rpn_head: Mapping[str, Any],
        roi_head: Mapping[str, Any],
        train_cfg: Mapping[str, Any],
        test_cfg: Mapping[str, Any],
        levels: int = 4,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.levels = levels
        parts = completed_parts(in_channels, in_strides, levels, neck, rpn_head, roi_head)
        train, test = ConfigDict(train_cfg), ConfigDict(test_cfg)
        self.proposal_cfg = train.rpn_proposal
        align = parts["roi_head"]["bbox_roi_extractor"]["roi_layer"]
        if align["type"] == "RoIAlign":
            align["type"] = SharedOutRoIAlign
        # Default arguments inside mmdet name their parts without a scope.
        with DefaultScope.overwrite_default_scope("mmdet"):
            self.neck = MODELS.build(parts["neck"])
            self.rpn_head = MODELS.build(
                dict(parts["rpn_head"], train_cfg=train.rpn, test_cfg=test.rpn)
            )
            self.roi_head = MODELS.build(
                dict(parts["roi_head"], train_cfg=train.rcnn, test_cfg=test.rcnn)
            )

    @property
    def pyramid_levels(self) -> int:
        """Number of levels of the pyramid and of the RPN's maps."""
        return len(self.rpn_head.prior_generator.strides)

    @property
    def levels_read(self) -> tuple[int, ...]:
        return tuple(range(self.levels))

    def forward(
        self, features: Sequence[Tensor], image: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The RPN's maps, one tensor per pyramid level.

        Returns:
            Objectness logits, float32 (n, anchors, rows, cols), and box offsets, float32
            (n, 4 * anchors, rows, cols).
        """
        return self._rpn(self._pyramid(features))

    def _pyramid(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return self.neck(features[: self.levels])

    def _rpn(self, pyramid: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        scores, offsets = self.rpn_head(pyramid)
        return [level.float() for level in scores], [level.float() for level in offsets]

    def loss(
        self,
        features: Sequence[Tensor],
        samples: Sequence[PEDataSample],
        image: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses over samples that all have ``gt_instances``, possibly empty."""
        pyramid = self._pyramid(features)
        maps = self._rpn(pyramid)
        metas = [sample.metainfo for sample in samples]
        truth = [sample.gt_instances for sample in samples]
        rpn = self.rpn_head.loss_by_feat(*maps, truth, metas)
        proposals = self.rpn_head.predict_by_feat(
            *maps, batch_img_metas=metas, cfg=self.proposal_cfg
        )
        roi = self.roi_head.loss(_in_float32(pyramid), proposals, samples)
        return {
            "loss_rpn_cls": _total(rpn["loss_rpn_cls"]),
            "loss_rpn_bbox": _total(rpn["loss_rpn_bbox"]),
            "loss_roi_cls": _total(roi["loss_cls"]),
            "loss_roi_bbox": _total(roi["loss_bbox"]),
        }

    def predict(
        self,
        features: Sequence[Tensor],
        samples: Sequence[PEDataSample],
        image: Tensor | None = None,
    ) -> None:
        """Set ``pred_instances`` of every sample, with boxes in pixels of the stored slice."""
        pyramid = self._pyramid(features)
        self.set_boxes(pyramid, *self._rpn(pyramid), samples)

    def dense(
        self, features: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], list[Tensor], list[Tensor]]:
        """Everything computed before the boxes: the pyramid and the RPN's maps of its levels."""
        pyramid = self._pyramid(features)
        return (pyramid, *self._rpn(pyramid))

    def set_boxes(
        self,
        pyramid: Sequence[Tensor],
        scores: Sequence[Tensor],
        offsets: Sequence[Tensor],
        samples: Sequence[PEDataSample],
    ) -> None:
        """Set the results of :meth:`predict` from the output of :meth:`dense`."""
        metas = [sample.metainfo for sample in samples]
        proposals = self.rpn_head.predict_by_feat(
            list(scores), list(offsets), batch_img_metas=metas
        )
        found = self.roi_head.predict(_in_float32(pyramid), proposals, samples, rescale=False)
        for sample, instances in zip(samples, found):
            boxes = SliceGeometry.of(sample).boxes_to_slice(instances.bboxes.float())
            sample.set_field(
                InstanceData(
                    bboxes=boxes, scores=instances.scores.float(), labels=instances.labels
                ),
                "pred_instances",
            )


def _in_float32(pyramid: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(level.float() for level in pyramid)


def _total(loss: Tensor | list[Tensor]) -> Tensor:
    """mmdet returns one tensor, or one per pyramid level."""
    return sum(level.mean() for level in loss) if isinstance(loss, list) else loss
