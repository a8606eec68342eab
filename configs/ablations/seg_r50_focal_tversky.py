"""Loss: focal Tversky instead of Dice.

pe-unified train ablations/seg_r50_focal_tversky --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice -0.024 [-0.062, +0.014] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

model = dict(
    seg_head=dict(
        losses=[
            dict(type="FocalTverskyLoss"),
            dict(type="PixelCrossEntropyLoss"),
        ]
    )
)
