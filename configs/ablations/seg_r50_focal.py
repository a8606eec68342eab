"""Loss: Dice with focal loss instead of cross-entropy.

pe-unified train ablations/seg_r50_focal --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice -0.003 [-0.030, +0.023] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

model = dict(
    seg_head=dict(
        losses=[dict(type="PooledDiceLoss"), dict(type="PixelFocalLoss", loss_weight=10.0)]
    )
)
