"""A small cascade: lung detector, classifier, two segmentation networks, boxes, all joined.

pe-unified steps demo/cascade --data-root data/cascade/pe --jobs 2

Time: 9 minutes of one CPU core with bfloat16 (AMD EPYC), on the 64 studies of docs/cascade.md.
Result: docs/cascade.md.
"""

_base_ = "../cascade/cascade.py"

settings = dict(
    pretrained=None,
    input_size=(112, 144),
    windows=["embolus", "pe", "lung"],
    batch_size=12,
    num_workers=0,
    max_iters=250,
    warmup_iters=20,
    lr=4e-3,
    default_hooks=dict(checkpoint=dict(interval=50)),
)

narrow = dict(depth=18, base_channels=32)
decoder = dict(channels=(64, 48, 32, 24), skip_channels=32, detail_channels=8)
# RTMDet-tiny at a third of its width; the lungs are large.
thin = dict(
    backbone=dict(widen_factor=0.125),
    neck=dict(in_channels=[32, 64, 128], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32),
)
step_settings = dict(
    lungs=dict(input_size=96, windows=["lung", "pe", "mediastinal"], batch_size=16, model=thin),
    cls=dict(
        model=dict(
            backbone=narrow,
            cls_head=dict(evidence_channels=32, mask_weight=1.0),
        )
    ),
    seg_r50=dict(model=dict(backbone=narrow, seg_head=dict(decoder=decoder))),
    seg_swin=dict(
        lr=2e-3,
        model=dict(
            backbone=dict(
                embed_dims=32, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8), drop_path_rate=0.0
            ),
            seg_head=dict(decoder=decoder),
        ),
    ),
    det=dict(
        max_iters=400,
        lr=2e-3,
        train_dataloader=dict(
            sampler=dict(_delete_=True, type="PEOversamplingSampler", factor=12.0)
        ),
        model=dict(
            backbone=narrow,
            det_head=dict(
                levels=3,
                neck=dict(out_channels=64),
                rpn_head=dict(anchor_generator=dict(scales=[1.0, 1.75])),
                train_cfg=dict(rpn_proposal=dict(nms_pre=200, max_per_img=80)),
                test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=32), rcnn=dict(max_per_img=20)),
            ),
        ),
    ),
)
