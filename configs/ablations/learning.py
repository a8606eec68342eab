"""A short run of two tasks on one backbone, one change at a time: ResNet-50 from scratch.

pe-unified phantom data/learning/raw --layout fumpe --studies 36 --seed 100 --size 256 \
  --slices 80 --anatomy DIR
pe-unified convert fumpe data/learning/raw data/learning/fumpe --split 0.6 0.15 0.25
pe-unified steps ablations/learning --data-root data/learning/fumpe --seeds 0 1 2 --jobs 2

Time: about eight minutes a step and seed on one CPU core with bfloat16, 16 steps.
Result: not measured.
"""

settings = dict(
    num_workers=0,
    max_iters=200,
    warmup_iters=20,
    default_hooks=dict(checkpoint=dict(interval=100, max_keep=1)),
)
steps = [
    dict(name="cls", config="../short/cls_r50.py"),
    dict(name="seg", config="../short/seg_r50.py"),
    dict(name="cls_seg", config="../short/cls_seg_r50.py"),
    # Features without normalisation, whose gradients swamp those of the masks.
    dict(
        name="cls_seg_raw",
        config="../short/cls_seg_r50.py",
        settings=dict(model=dict(cls_head=dict(normalise=False))),
    ),
    dict(
        name="cls_no_evidence",
        config="../short/cls_r50.py",
        settings=dict(model=dict(cls_head=dict(levels=(-1,), evidence_channels=0))),
    ),
    dict(
        name="cls_seg_no_evidence",
        config="../short/cls_seg_r50.py",
        settings=dict(
            model=dict(cls_head=dict(levels=(-1,), evidence_channels=0, mask_weight=0.0))
        ),
    ),
]
# Everything else that a short run depends on, each against cls_seg.
changes = dict(
    low_rate=dict(lr=2e-4),
    no_clipping=dict(optim_wrapper=dict(clip_grad=None)),
    no_average=dict(default_hooks=dict(average=None)),
    group_norm=dict(model=dict(backbone=dict(norm_cfg=dict(type="GN", num_groups=32)))),
    stride_4=dict(
        model=dict(
            seg_head=dict(decoder=dict(out_stride=4, channels=(128, 96, 64), detail_channels=0))
        )
    ),
    no_dice=dict(model=dict(seg_head=dict(losses=[dict(type="PixelCrossEntropyLoss")]))),
    natural_shares=dict(train_dataloader=dict(sampler=dict(_delete_=True, type="SliceSampler"))),
    no_crop=dict(lung_crop=False),
    embolus_window=dict(windows=["embolus", "pe", "lung"]),
)
steps += [
    dict(name=name, config="../short/cls_seg_r50.py", settings=changed)
    for name, changed in changes.items()
]
steps += [dict(name="no_augmentation", config="cls_seg_r50_plain.py")]
comparisons = [
    ("seg/dice", "seg", "cls_seg"),
    ("cls/auc", "cls", "cls_seg"),
    ("seg/dice", "cls_seg_raw", "cls_seg"),
    ("cls/auc", "cls_seg_raw", "cls_seg"),
    ("cls/auc", "cls_no_evidence", "cls"),
    ("seg/dice", "cls_seg_no_evidence", "cls_seg"),
    ("cls/auc", "cls_seg_no_evidence", "cls_seg"),
    *[
        (metric, "cls_seg", name)
        for name in (*changes, "no_augmentation")
        for metric in ("seg/dice", "cls/auc")
    ],
]
arms = ("baseline", "changed")
