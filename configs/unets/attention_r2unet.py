"""Which pixels are embolus? R2U-Net with the gates of Attention U-Net.

pe-unified train unets/attention_r2unet --data-root data/pe

Time: not measured.
Result: Dice 0.54 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "r2unet.py"

model = dict(seg_head=dict(decoder=dict(type="AttentionUNetDecoder")))
