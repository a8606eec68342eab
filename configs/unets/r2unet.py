"""Which pixels are embolus? R2U-Net, recurrent residual blocks (Alom et al. 2018).

pe-unified train unets/r2unet --data-root data/pe

Time: not measured.
Result: Dice 0.60 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "unet.py"

model = dict(
    backbone=dict(block="recurrent"),
    seg_head=dict(decoder=dict(block="recurrent")),
)
