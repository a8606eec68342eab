"""Loss: focal loss alone, instead of Dice and cross-entropy.

pe-unified train ablations/seg_r50_focal_only --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice -0.048 [-0.078, -0.018] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

model = dict(seg_head=dict(losses=[dict(type="PixelFocalLoss")]))
