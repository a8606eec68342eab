"""The settings of the detection branch, and mmdet's parts built from them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DetSettings:
    """Settings of Faster R-CNN; the defaults are for emboli.

    Boxes of the emboli in FUMPE measure 4 to 85 pixels of 512 (geometric mean of the sides, 1st
    to 99th percentile; median 15), and a slice rarely has ten of them. Hence anchors of 6,
    12, 24 and 48 pixels, few proposals, and no filter on size. :data:`STOCK` is what mmdet's
    own ``faster-rcnn_r50_fpn`` uses: anchors from 32 pixels and 1,000 proposals per slice.

    Attributes:
        levels: pyramid levels, from the backbone's finest: 4 for P2 to P5, 3 for P2 to P4.
        extra_levels: further levels by subsampling the coarsest (P6).
        channels: width of the pyramid and of the RPN.
        anchor_scales: sides of the square anchors, in strides of their level.
        anchor_ratios: height / width of the anchors.
        rpn_positive_iou: an anchor that overlaps an embolus by this much is positive; small
            boxes rarely reach 0.7.
        rpn_least_iou: the best anchor of an embolus is positive even if it overlaps by no
            more than this; a box of 2 pixels overlaps no anchor by 0.3.
        rpn_samples: anchors per slice that the RPN learns from.
        proposals_before_nms, proposals_train, proposals_test: per level before NMS, and per
            slice after it.
        roi_samples: proposals per slice that the RoI head learns from, a quarter positive.
        roi_size: side of the grid that RoIAlign samples.
        roi_finest_scale: boxes up to twice this side, in pixels, are read from P2.
        fc_channels: width of the RoI head's two layers.
        score_threshold: detections below it are dropped. Low, since the operating threshold
            is chosen later, on the validation split.
        nms_iou: of two detections that overlap by more, the better one stays.
        max_detections: per slice.
    """

    levels: int = 4
    extra_levels: int = 0
    channels: int = 128
    anchor_scales: Sequence[float] = (1.5,)
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0)
    rpn_positive_iou: float = 0.5
    rpn_least_iou: float = 0.05
    rpn_samples: int = 128
    proposals_before_nms: int = 500
    proposals_train: int = 150
    proposals_test: int = 64
    roi_samples: int = 64
    roi_size: int = 7
    roi_finest_scale: int = 16
    fc_channels: int = 256
    score_threshold: float = 0.01
    nms_iou: float = 0.5
    max_detections: int = 50

    def replaced(self, **changes: Any) -> dict[str, Any]:
        """As a plain dictionary for a config, with changes."""
        return {**asdict(self), **changes}


#: mmdet's faster-rcnn_r50_fpn_1x_coco, with one class.
STOCK = DetSettings(
    levels=4,
    extra_levels=1,
    channels=256,
    anchor_scales=(8,),
    rpn_positive_iou=0.7,
    rpn_least_iou=0.3,
    rpn_samples=256,
    proposals_before_nms=1000,
    proposals_train=1000,
    proposals_test=1000,
    roi_samples=512,
    roi_finest_scale=56,
    fc_channels=1024,
    score_threshold=0.05,
    max_detections=100,
)


def faster_rcnn_parts(
    in_channels: Sequence[int], in_strides: Sequence[int], settings: DetSettings
) -> dict[str, dict[str, Any]]:
    """Configs of mmdet's parts.

    Args:
        in_channels, in_strides: the backbone's levels, finest first.
        settings: see :class:`DetSettings`.

    Returns:
        ``neck``, ``rpn_head``, ``roi_head``, ``train_cfg`` and ``test_cfg``, as mmdet's
        ``FasterRCNN`` takes them; every type is scope-qualified.
    """
    if not 1 <= settings.levels <= len(in_channels):
        raise ValueError(f"levels is 1 to {len(in_channels)}, got {settings.levels}")
    strides = list(in_strides[: settings.levels])
    outs = settings.levels + settings.extra_levels
    anchor_strides = [*strides, *(strides[-1] << step + 1 for step in range(settings.extra_levels))]
    neck = dict(
        type="mmdet.FPN",
        in_channels=list(in_channels[: settings.levels]),
        out_channels=settings.channels,
        num_outs=outs,
    )
    rpn_head = dict(
        type="mmdet.RPNHead",
        in_channels=settings.channels,
        feat_channels=settings.channels,
        anchor_generator=dict(
            type="mmdet.AnchorGenerator",
            scales=list(settings.anchor_scales),
            ratios=list(settings.anchor_ratios),
            strides=anchor_strides,
        ),
        bbox_coder=_box_coder(1.0, 1.0),
        loss_cls=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type="mmdet.L1Loss", loss_weight=1.0),
    )
    roi_head = dict(
        type="mmdet.StandardRoIHead",
        bbox_roi_extractor=dict(
            type="mmdet.SingleRoIExtractor",
            roi_layer=dict(
                type="RoIAlign",
                output_size=settings.roi_size,
                sampling_ratio=0,
                use_torchvision=True,
            ),
            out_channels=settings.channels,
            featmap_strides=strides,
            finest_scale=settings.roi_finest_scale,
        ),
        bbox_head=dict(
            type="mmdet.Shared2FCBBoxHead",
            in_channels=settings.channels,
            fc_out_channels=settings.fc_channels,
            roi_feat_size=settings.roi_size,
            num_classes=1,
            bbox_coder=_box_coder(0.1, 0.2),
            reg_class_agnostic=False,
            loss_cls=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type="mmdet.L1Loss", loss_weight=1.0),
        ),
    )
    train_cfg = dict(
        rpn=dict(
            assigner=_assigner(
                settings.rpn_positive_iou, 0.3, settings.rpn_least_iou, low_quality=True
            ),
            sampler=_sampler(settings.rpn_samples, 0.5, with_truth=False),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=_proposals(2 * settings.proposals_before_nms, settings.proposals_train),
        rcnn=dict(
            assigner=_assigner(0.5, 0.5, 0.5, low_quality=False),
            sampler=_sampler(settings.roi_samples, 0.25, with_truth=True),
            pos_weight=-1,
            debug=False,
        ),
    )
    test_cfg = dict(
        rpn=_proposals(settings.proposals_before_nms, settings.proposals_test),
        rcnn=dict(
            score_thr=settings.score_threshold,
            nms=dict(type="nms", iou_threshold=settings.nms_iou),
            max_per_img=settings.max_detections,
        ),
    )
    return dict(
        neck=neck, rpn_head=rpn_head, roi_head=roi_head, train_cfg=train_cfg, test_cfg=test_cfg
    )


def _box_coder(centre_std: float, size_std: float) -> dict[str, Any]:
    return dict(
        type="mmdet.DeltaXYWHBBoxCoder",
        target_means=[0.0, 0.0, 0.0, 0.0],
        target_stds=[centre_std, centre_std, size_std, size_std],
    )


def _assigner(positive: float, negative: float, least: float, low_quality: bool) -> dict[str, Any]:
    return dict(
        type="mmdet.MaxIoUAssigner",
        pos_iou_thr=positive,
        neg_iou_thr=negative,
        min_pos_iou=least,
        match_low_quality=low_quality,
        ignore_iof_thr=-1,
    )


def _sampler(count: int, positive_share: float, with_truth: bool) -> dict[str, Any]:
    return dict(
        type="mmdet.RandomSampler",
        num=count,
        pos_fraction=positive_share,
        neg_pos_ub=-1,
        add_gt_as_proposals=with_truth,
    )


def _proposals(before_nms: int, after_nms: int) -> dict[str, Any]:
    return dict(
        nms_pre=before_nms,
        max_per_img=after_nms,
        nms=dict(type="nms", iou_threshold=0.7),
        min_bbox_size=0,
    )
