"""Loss: Tversky in place of Dice; a missed pixel counts 0.7, a false one 0.3.

pe-unified train ablations/seg_r50_tversky --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; no GPU was measured.
Result: not measured.
"""

_base_ = "../pe_seg_r50.py"

model = dict(
    seg_head=dict(
        losses=[
            dict(
                type="monai.losses.TverskyLoss",
                sigmoid=True,
                batch=True,
                alpha=0.3,  # of false pixels
                beta=0.7,  # of missed ones
                smooth_nr=1.0,
                smooth_dr=1.0,
            ),
            dict(type="PixelCrossEntropyLoss"),
        ]
    )
)
