"""Lungs, slices, masks and boxes by networks of their own, joined to one set of lesions.

A detector finds the lungs, to which slices are cropped; a classifier tells where to look; two
segmentations, on ResNet-50 and on Swin-T, and a Faster R-CNN look there; lesions get their score
from all of them by a logistic model that validation lesions fit. `single` is the same with one
segmentation, cropped by Hounsfield units and without that fit.

pe-unified steps cascade/cascade --data-root data/pe

pe-unified infer takes work_dirs/cascade/cascade/ensemble.pth as its --checkpoint.

Time: about 130 h on 2 CPU cores with bfloat16, by those of its configs; not measured.
Result: not known on a public set; on painted ones, made small: docs/cascade.md.
"""

steps = [
    dict(name="lungs", config="lung_detector.py"),
    dict(name="cls", config="../pe_cls_r50.py"),
    dict(name="seg_r50", config="../pe_seg_r50.py"),
    dict(name="seg_swin", config="../pe_seg_swin.py"),
    dict(name="det", config="../pe_det_r50.py", reuse=dict(backbone="cls")),
    dict(
        name="single",
        config="../pe_unified_r50.py",
        ensemble=dict(members=["cls", "seg_r50", "det"]),
    ),
    dict(
        name="cascade",
        config="../pe_unified_r50.py",
        ensemble=dict(members=["cls", "seg_r50", "seg_swin", "det"], lungs="lungs", fuse=True),
    ),
]
comparisons = [
    ("seg/dice", "seg_r50", "cascade"),
    ("findings/mean_sensitivity", "single", "cascade"),
]
arms = ("single", "cascade")
