"""Which pixels are embolus? Attention U-Net (Oktay et al. 2018).

pe-unified train unets/attention_unet --data-root data/pe

Time: not measured.
Result: Dice 0.73 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "unet.py"

model = dict(seg_head=dict(decoder=dict(type="AttentionUNetDecoder")))
