"""Augmentation: half of the slices with few embolus pixels become parts of four such slices.

pe-unified train ablations/seg_r50_joining --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice -0.003 [-0.022, +0.017] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

join_slices = 0.5
