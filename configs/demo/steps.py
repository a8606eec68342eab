"""Small stepwise training: one network learns slices, one masks, then both, boxes, all at once.

pe-unified steps demo/steps --data-root data/demo/pe --jobs 2

Time: 2.4 to 3.3 minutes on 2 CPU cores with bfloat16, of 3.6 to 4.9 for all of `make demo` after
set-up.
Result: docs/demo.md.
"""

_base_ = "comparison.py"

steps = [
    dict(name="s1_cls", config="../pe_cls_{backbone}.py"),
    dict(name="s2_seg", config="../pe_seg_{backbone}.py"),
    dict(
        name="s6_cls_seg_reused",
        config="../pe_cls_seg_{backbone}.py",
        reuse=dict(backbone="s1_cls", cls_head="s1_cls", seg_head="s2_seg"),
    ),
    dict(name="s8_det_reused", config="../pe_det_{backbone}.py", reuse=dict(backbone="s1_cls")),
    dict(
        name="s9_unified",
        config="../pe_unified_{backbone}.py",
        reuse=dict(
            backbone="s6_cls_seg_reused",
            cls_head="s6_cls_seg_reused",
            seg_head="s6_cls_seg_reused",
            det_head="s8_det_reused",
        ),
    ),
]
comparisons = [
    ("cls/auc", "s1_cls", "s6_cls_seg_reused"),
    ("seg/iou", "s2_seg", "s6_cls_seg_reused"),
]

settings = dict(
    input_size=(112, 144),
    batch_size=12,
    max_iters=110,
    warmup_iters=10,
    default_hooks=dict(checkpoint=dict(interval=50)),
)
step_settings = dict(
    _delete_=True,
    s8_det_reused=dict(
        max_iters=40,
        lr=2e-3,
        train_dataloader=dict(
            sampler=dict(_delete_=True, type="PEOversamplingSampler", factor=12.0)
        ),
    ),
    s9_unified=dict(max_iters=100, lr=1.5e-3),
)
