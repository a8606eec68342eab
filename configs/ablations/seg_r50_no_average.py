"""Weights: the last ones, instead of their running average.

pe-unified train ablations/seg_r50_no_average --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice +0.019 [-0.004, +0.042] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

default_hooks = dict(average=None)
