"""Which pixels are embolus? The decoder of UNet++ on the shared ResNet-50.

pe-unified train unets/unet_plus_plus_r50 --data-root data/pe

Time: not measured.
Result: Dice 0.59 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "../pe_seg_r50.py"

model = dict(
    seg_head=dict(
        decoder=dict(_delete_=True, type="UNetPlusPlusDecoder", channels=(128, 64, 32)),
    ),
)
