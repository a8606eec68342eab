"""Which pixels are embolus? A UNet with one pooling level.

pe-unified train unets/tiny_unet1 --data-root data/pe

Time: not measured.
Result: not measured.
"""

_base_ = "unet.py"

model = dict(backbone=dict(poolings=1))
