"""Which pixels are embolus? A UNet with three pooling levels.

pe-unified train unets/tiny_unet3 --data-root data/pe

Time: not measured.
Result: Dice 0.72 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "unet.py"

model = dict(backbone=dict(poolings=3))
