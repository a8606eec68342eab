"""Which pixels are embolus? A UNet with one pooling level.

pe-unified train unets/tiny_unet1 --data-root data/pe

Time: not measured.
Result: Dice 0.49 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "unet.py"

model = dict(backbone=dict(poolings=1))
