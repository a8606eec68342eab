"""Which pixels are embolus? X-Net, two encoder-decoders in sequence (Bullock et al. 2018).

pe-unified train unets/xnet --data-root data/pe

Time: not measured.
Result: Dice 0.69 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "unet.py"

model = dict(
    backbone=dict(_delete_=True, type="NoBackbone"),
    seg_head=dict(decoder=dict(_delete_=True, type="XNet")),
)
