"""The full recipe on a narrow ResNet-18 and small slices: minutes on two CPU cores.

pe-unified steps demo/comparison --data-root data/comparison/pe --jobs 2

Time: 29 minutes on 2 CPU cores with bfloat16, of 35 for the whole `make comparison`; about three
times as long on an older CPU without bfloat16, in float32 (docs/demo.md).
Result: docs/demo.md.
"""

_base_ = "../steps/r50.py"

settings = dict(
    pretrained=None,
    # Synthetic slices have 256 columns, of which the lungs cover about 200.
    input_size=(144, 192),
    windows=["embolus", "pe", "lung"],
    batch_size=16,
    num_workers=0,
    max_iters=200,
    warmup_iters=20,
    lr=4e-3,
    model=dict(
        backbone=dict(depth=18, base_channels=32),
        # Where masks are known, they also supervise where the classification looks.
        cls_head=dict(evidence_channels=32, mask_weight=1.0),
        seg_head=dict(decoder=dict(channels=(64, 48, 32, 24), skip_channels=32, detail_channels=8)),
        det_head=dict(
            levels=3,
            neck=dict(out_channels=64),
            rpn_head=dict(anchor_generator=dict(scales=[1.0, 1.75])),
            train_cfg=dict(rpn_proposal=dict(nms_pre=200, max_per_img=80)),
            test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=32), rcnn=dict(max_per_img=20)),
        ),
    ),
    # As the full pipeline, but without HU jitter: all synthetic scanners are calibrated alike.
    train_dataloader=dict(
        dataset=dict(
            pipeline=[
                dict(type="LoadCTSlice"),
                dict(type="LoadPELabels"),
                dict(type="CropToLungs", margin_mm=10.0, jitter=0.05),
                dict(type="ResizeSlice", size=None),
                dict(type="RandomSliceGeometry", elastic=0.2),
                dict(type="CTWindows"),
                dict(type="PackPEInputs"),
            ]
        )
    ),
    default_hooks=dict(checkpoint=dict(interval=100)),
)

# Boxes of a few pixels need the most training, and learn from positive slices.
detection = dict(
    max_iters=400,
    lr=2e-3,
    train_dataloader=dict(sampler=dict(_delete_=True, type="PEOversamplingSampler", factor=12.0)),
)
step_settings = dict(
    s7_det=detection,
    s8_det_reused=detection,
    s9_unified=dict(max_iters=300, lr=1.5e-3, model=dict(task_weights=dict(det=3.0))),
)
