"""Schedule: a constant learning rate after the warm-up, instead of the cosine.

pe-unified train ablations/seg_r50_constant_rate --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice +0.000 [-0.038, +0.038] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(type="ConstantLR", factor=1.0, by_epoch=False, begin=500, end=20000),
]
