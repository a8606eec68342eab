"""Input: whole slices, instead of the crop to the lungs.

pe-unified train ablations/seg_r50_whole_slice --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice -0.063 [-0.130, +0.005] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

lung_crop = False
