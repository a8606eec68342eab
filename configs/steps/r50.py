"""The stepwise comparison on ResNet-50: every arm by itself, and again from earlier steps.

tools/train_steps.py configs/steps/r50.py --data-root data/pe

Time: about 230 h on 2 CPU cores with bfloat16, the sum of its configs; no GPU was measured.
Result: not measured; docs/results.md has the same steps, made small.
"""

#: Stands for {backbone} in the configs below.
backbone = "r50"

steps = [
    dict(name="s1_cls", config="../pe_cls_{backbone}.py"),
    dict(name="s2_seg", config="../pe_seg_{backbone}.py"),
    dict(name="s3_cls_seg", config="../pe_cls_seg_{backbone}.py"),
    dict(
        name="s4_cls_reused",
        config="../pe_cls_{backbone}.py",
        reuse=dict(backbone="s1_cls", cls_head="s1_cls"),
    ),
    dict(
        name="s5_seg_reused",
        config="../pe_seg_{backbone}.py",
        reuse=dict(backbone="s1_cls", seg_head="s2_seg"),
    ),
    dict(
        name="s6_cls_seg_reused",
        config="../pe_cls_seg_{backbone}.py",
        reuse=dict(backbone="s1_cls", cls_head="s1_cls", seg_head="s2_seg"),
    ),
    dict(name="s7_det", config="../pe_det_{backbone}.py"),
    dict(name="s8_det_reused", config="../pe_det_{backbone}.py", reuse=dict(backbone="s1_cls")),
    dict(
        name="s9_unified",
        config="../pe_unified_{backbone}.py",
        reuse=dict(
            backbone="s1_cls",
            cls_head="s1_cls",
            seg_head="s5_seg_reused",
            det_head="s8_det_reused",
        ),
    ),
]

# (metric, arm from scratch, arm that reuses)
comparisons = [
    ("cls/auc", "s1_cls", "s4_cls_reused"),
    ("seg/iou", "s2_seg", "s5_seg_reused"),
    ("cls/auc", "s3_cls_seg", "s6_cls_seg_reused"),
    ("seg/iou", "s3_cls_seg", "s6_cls_seg_reused"),
    ("det/mAP_50", "s7_det", "s8_det_reused"),
    ("cls/auc", "s1_cls", "s9_unified"),
    ("seg/iou", "s2_seg", "s9_unified"),
    ("det/mAP_50", "s7_det", "s9_unified"),
]
