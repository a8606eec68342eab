"""Loss: generalised Dice, of embolus and background, instead of Dice.

pe-unified train ablations/seg_r50_generalised_dice --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice +0.007 [-0.039, +0.052] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

model = dict(
    seg_head=dict(
        losses=[
            dict(
                type="TwoClassLoss",
                loss=dict(
                    type="monai.losses.GeneralizedDiceLoss",
                    batch=True,
                    # Weights are 1 / pixels^2: the usual 1e-5 would outweigh all pixels.
                    smooth_nr=0.0,
                    smooth_dr=1e-12,
                ),
            ),
            dict(type="PixelCrossEntropyLoss"),
        ]
    )
)
