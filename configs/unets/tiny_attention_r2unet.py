"""Which pixels are embolus? Three pooling levels, recurrent residual blocks, gates.

pe-unified train unets/tiny_attention_r2unet --data-root data/pe

Time: not measured.
Result: not measured.
"""

_base_ = "attention_r2unet.py"

model = dict(backbone=dict(poolings=3))
