"""Loss: Tversky instead of Dice; a missed pixel counts 0.7, a false one 0.3.

pe-unified train ablations/seg_r50_tversky --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice +0.013 [-0.007, +0.033] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

model = dict(
    seg_head=dict(
        losses=[
            dict(
                type="monai.losses.TverskyLoss",
                sigmoid=True,
                batch=True,
                alpha=0.3,  # false pixels
                beta=0.7,  # missed pixels
                smooth_nr=1.0,
                smooth_dr=1.0,
            ),
            dict(type="PixelCrossEntropyLoss"),
        ]
    )
)
