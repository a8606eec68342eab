"""Which pixels are embolus? The decoder of Attention U-Net on the shared ResNet-50.

pe-unified train unets/attention_unet_r50 --data-root data/pe

Time: not measured.
Result: Dice 0.59 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "../pe_seg_r50.py"

model = dict(seg_head=dict(decoder=dict(type="AttentionUNetDecoder")))
