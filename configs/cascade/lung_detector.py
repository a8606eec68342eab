"""Where are the lungs? RTMDet-tiny (https://arxiv.org/abs/2212.07784) on whole slices.

One box around both lungs on every slice that shows them, derived from its Hounsfield units within
the lungs of the set (LoadLungBox). Cropping to the detected box is useful for images with only
approximate Hounsfield units, and for lungs that contain fluid instead of air.

pe-unified train cascade/lung_detector --data-root data/pe

The metrics are lung_box/mAP etc., for lungs and not for emboli, and lung_box/embolus_share: the
share of all embolus pixels that is inside the crop.

Time: not measured.
Result: unknown on public sets; a small version on synthetic sets: docs/cascade.md.
"""

_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/pe_slices.py",
    "../_base_/schedules/adamw_cosine.py",
]

input_size = 224
windows = ["lung", "pe", "mediastinal"]
batch_size = 32
max_iters = 5000
lr = 1e-3

norm = dict(norm_cfg=dict(type="BN"), act_cfg=dict(type="SiLU", inplace=True))
model = dict(
    type="LungDetector",
    data_preprocessor=dict(type="PEDataPreprocessor"),
    backbone=dict(
        type="mmdet.CSPNeXt",
        arch="P5",
        expand_ratio=0.5,
        deepen_factor=0.167,
        widen_factor=0.375,
        channel_attention=True,
        **norm,
    ),
    neck=dict(
        type="mmdet.CSPNeXtPAFPN",
        in_channels=[96, 192, 384],
        out_channels=96,
        num_csp_blocks=1,
        expand_ratio=0.5,
        **norm,
    ),
    bbox_head=dict(
        type="mmdet.RTMDetSepBNHead",
        num_classes=1,
        in_channels=96,
        stacked_convs=2,
        feat_channels=96,
        anchor_generator=dict(type="mmdet.MlvlPointGenerator", offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type="mmdet.DistancePointBBoxCoder"),
        loss_cls=dict(type="mmdet.QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type="mmdet.GIoULoss", loss_weight=2.0),
        with_objectness=False,
        exp_on_reg=False,
        share_conv=True,
        pred_kernel_size=1,
        **norm,
    ),
    train_cfg=dict(
        assigner=dict(type="mmdet.DynamicSoftLabelAssigner", topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=100,
        min_bbox_size=0,
        score_thr=0.001,
        nms=dict(type="nms", iou_threshold=0.6),
        max_per_img=5,
    ),
)
del norm

train_pipeline = [
    dict(type="LoadCTSlice"),
    dict(type="LoadLungBox"),
    dict(type="LoadPELabels"),
    dict(type="ResizeSlice", size=input_size),
    dict(type="RandomSliceGeometry", flip=0.5, rotate=10.0, scale=(0.8, 1.2)),
    dict(type="HUJitter"),
    dict(type="CTWindows", windows=windows),
    dict(type="PackPEInputs"),
]
test_pipeline = [
    dict(type="LoadCTSlice"),
    dict(type="LoadLungBox"),
    dict(type="ResizeSlice", size=input_size),
    dict(type="CTWindows", windows=windows),
    dict(type="PackPEInputs"),
]
train_dataloader = dict(
    sampler=dict(type="SliceSampler"), dataset=dict(label="lung", pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(label="lung", pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(label="lung", pipeline=test_pipeline))

val_evaluator = [dict(type="LungBoxMetric", resamples=0)]
test_evaluator = [dict(type="LungBoxMetric")]
