"""The stepwise comparison on ResNet-50: every arm alone, and again from earlier steps.

A reused arm has had the training of all steps it starts from. The steps called _long are its
controls: from scratch, with as many slices in total. Their lengths follow from those of the others.

pe-unified steps steps/r50 --data-root data/pe

Time: about 480 h on 2 CPU cores with bfloat16, the sum of its configs, 250 h of it for the
controls; not measured on a GPU.
Result: not measured; a small version of the same steps: docs/results.md.
"""

#: Replaces {backbone} in the configs below.
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
    dict(name="s1_long", like="s1_cls", as_long_as="s4_cls_reused"),
    dict(
        name="s5_seg_reused",
        config="../pe_seg_{backbone}.py",
        reuse=dict(backbone="s1_cls", seg_head="s2_seg"),
    ),
    dict(name="s2_long", like="s2_seg", as_long_as="s5_seg_reused"),
    dict(
        name="s6_cls_seg_reused",
        config="../pe_cls_seg_{backbone}.py",
        reuse=dict(backbone="s1_cls", cls_head="s1_cls", seg_head="s2_seg"),
    ),
    dict(name="s3_long", like="s3_cls_seg", as_long_as="s6_cls_seg_reused"),
    dict(name="s7_det", config="../pe_det_{backbone}.py"),
    dict(name="s8_det_reused", config="../pe_det_{backbone}.py", reuse=dict(backbone="s1_cls")),
    dict(name="s7_long", like="s7_det", as_long_as="s8_det_reused"),
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

# (metric, arm from scratch, arm that reuses): at equal iterations of the step, then in total. The
# chain of s9_unified is longer than any control; it is compared with the longest of its task.
comparisons = [
    ("cls/auc", "s1_cls", "s4_cls_reused"),
    ("cls/auc", "s1_long", "s4_cls_reused"),
    ("seg/iou", "s2_seg", "s5_seg_reused"),
    ("seg/iou", "s2_long", "s5_seg_reused"),
    ("cls/auc", "s3_cls_seg", "s6_cls_seg_reused"),
    ("cls/auc", "s3_long", "s6_cls_seg_reused"),
    ("seg/iou", "s3_cls_seg", "s6_cls_seg_reused"),
    ("seg/iou", "s3_long", "s6_cls_seg_reused"),
    ("det/mAP_50", "s7_det", "s8_det_reused"),
    ("det/mAP_50", "s7_long", "s8_det_reused"),
    ("cls/auc", "s1_cls", "s9_unified"),
    ("cls/auc", "s3_long", "s9_unified"),
    ("seg/iou", "s2_seg", "s9_unified"),
    ("seg/iou", "s2_long", "s9_unified"),
    ("det/mAP_50", "s7_det", "s9_unified"),
    ("det/mAP_50", "s7_long", "s9_unified"),
]
