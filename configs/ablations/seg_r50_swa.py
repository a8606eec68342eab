"""Weights: mean of the last quarter of training (SWA), instead of the running average.

pe-unified train ablations/seg_r50_swa --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice +0.021 [+0.007, +0.036] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

swa_share = 0.25
