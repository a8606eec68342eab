"""Which pixels are embolus? Attention U-Net (Oktay et al. 2018).

pe-unified train unets/attention_unet --data-root data/pe

Time: not measured.
Result: not measured.
"""

_base_ = "unet.py"

model = dict(seg_head=dict(decoder=dict(type="AttentionUNetDecoder")))
