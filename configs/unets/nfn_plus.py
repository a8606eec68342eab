"""Which pixels are embolus? NFN+, a UNet followed by a UNet (Wu et al. 2020).

pe-unified train unets/nfn_plus --data-root data/pe

Time: not measured.
Result: Dice 0.38 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "unet.py"

model = dict(
    backbone=dict(_delete_=True, type="NoBackbone"),
    seg_head=dict(
        decoder=dict(_delete_=True, type="NFNPlus", dropout=0.2, deep_supervision=True),
        side_weights=1.0,  # of the first UNet's output
    ),
)
