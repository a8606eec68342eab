"""Which pixels are embolus? U2-Net, UNets within a UNet (Qin et al. 2020).

pe-unified train unets/u2net --data-root data/pe

Time: not measured.
Result: Dice 0.67 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "unet.py"

model = dict(
    backbone=dict(_delete_=True, type="NoBackbone"),
    seg_head=dict(
        decoder=dict(_delete_=True, type="U2Net", deep_supervision=True),
        side_weights=1.0,  # of the six maps that the last layer fuses
    ),
)
