"""Lungs, slices, masks and boxes by separate networks, joined to one set of lesions.

A detector finds the lungs, to which slices are cropped; a classifier selects slices; two
segmentation networks, on ResNet-50 and on Swin-T, and a Faster R-CNN analyse these. Lesions get
their score from all of them by a logistic model fitted to validation lesions. `single` is the same
with one segmentation network, cropped by Hounsfield units and without that fit.

pe-unified steps cascade/cascade --data-root data/pe

pe-unified infer takes work_dirs/cascade_cascade/cascade/ensemble.pth as its --checkpoint.

Time: about 130 h on 2 CPU cores with bfloat16, the sum of its configs; not measured.
Result: unknown on public sets; a small version on synthetic sets: docs/cascade.md.
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
