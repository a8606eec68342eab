"""The three heads on any backbone; a task config drops heads with ``seg_head=None``.

Detection is Faster R-CNN from mmdet's parts, with settings for emboli. Their boxes in FUMPE measure
4 to 85 pixels of 512 (geometric mean of the sides, 1st to 99th percentile; median 15), and a slice
rarely has ten of them. So there are anchors of 6, 12, 24 and 48 pixels, few proposals, and no
filter by size. ../../ablations/det_r50_stock.py has mmdet's own settings.
"""

model = dict(
    type="PEUnified",
    data_preprocessor=dict(type="PEDataPreprocessor", channels_last=True),
    cls_head=dict(
        type="PEClsHead",
        pool="avg+max",
        levels=(-4, -3, -2, -1),
        normalise=True,
        evidence_channels=64,
        losses=[dict(type="SliceCrossEntropyLoss")],
    ),
    seg_head=dict(
        type="PESegHead",
        decoder=dict(type="UNetDecoder", out_stride=2, detail_channels=16),
        losses=[dict(type="PooledDiceLoss"), dict(type="PixelCrossEntropyLoss")],
    ),
    det_head=dict(
        type="PEDetHead",
        levels=4,
        neck=dict(type="mmdet.FPN", out_channels=128),
        rpn_head=dict(
            type="mmdet.RPNHead",
            anchor_generator=dict(
                type="mmdet.AnchorGenerator",
                scales=[1.5],  # sides of the squares, in strides of their level
                ratios=[0.5, 1.0, 2.0],
            ),
            bbox_coder=dict(
                type="mmdet.DeltaXYWHBBoxCoder",
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[1.0, 1.0, 1.0, 1.0],
            ),
            loss_cls=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
            loss_bbox=dict(type="mmdet.L1Loss", loss_weight=1.0),
        ),
        roi_head=dict(
            type="mmdet.StandardRoIHead",
            bbox_roi_extractor=dict(
                type="mmdet.SingleRoIExtractor",
                roi_layer=dict(
                    type="RoIAlign", output_size=7, sampling_ratio=0, use_torchvision=True
                ),
                finest_scale=16,  # boxes up to twice this side, in pixels, are read from P2
            ),
            bbox_head=dict(
                type="mmdet.Shared2FCBBoxHead",
                fc_out_channels=256,
                bbox_coder=dict(
                    type="mmdet.DeltaXYWHBBoxCoder",
                    target_means=[0.0, 0.0, 0.0, 0.0],
                    target_stds=[0.1, 0.1, 0.2, 0.2],
                ),
                reg_class_agnostic=False,
                loss_cls=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type="mmdet.L1Loss", loss_weight=1.0),
            ),
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=dict(
                    type="mmdet.MaxIoUAssigner",
                    pos_iou_thr=0.5,  # small boxes rarely reach mmdet's 0.7
                    neg_iou_thr=0.3,
                    min_pos_iou=0.05,  # with mmdet's 0.3 a box of 2 pixels matches no anchor
                    match_low_quality=True,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(
                    type="mmdet.RandomSampler",
                    num=128,
                    pos_fraction=0.5,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=False,
                ),
                allowed_border=-1,
                pos_weight=-1,
                debug=False,
            ),
            rpn_proposal=dict(
                nms_pre=1000,
                max_per_img=150,
                nms=dict(type="nms", iou_threshold=0.7),
                min_bbox_size=0,
            ),
            rcnn=dict(
                assigner=dict(
                    type="mmdet.MaxIoUAssigner",
                    pos_iou_thr=0.5,
                    neg_iou_thr=0.5,
                    min_pos_iou=0.5,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
                sampler=dict(
                    type="mmdet.RandomSampler",
                    num=64,
                    pos_fraction=0.25,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=True,
                ),
                pos_weight=-1,
                debug=False,
            ),
        ),
        test_cfg=dict(
            rpn=dict(
                nms_pre=500,
                max_per_img=64,
                nms=dict(type="nms", iou_threshold=0.7),
                min_bbox_size=0,
            ),
            rcnn=dict(
                score_thr=0.01,  # low: the operating threshold is chosen later, on validation
                nms=dict(type="nms", iou_threshold=0.5),
                max_per_img=50,
            ),
        ),
    ),
    task_weights=dict(cls=1.0, seg=1.0, det=1.0),
)
