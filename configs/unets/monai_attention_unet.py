"""Which pixels are embolus? A MONAI network: any class of monai.networks.nets.

pe-unified train unets/monai_attention_unet --data-root data/pe

Time: not measured.
Result: Dice 0.56 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "unet.py"

model = dict(
    backbone=dict(_delete_=True, type="NoBackbone"),
    seg_head=dict(
        decoder=dict(
            _delete_=True,
            type="MONAINet",
            arch="AttentionUnet",
            channels=(32, 64, 128, 256, 512),
            strides=(2, 2, 2, 2),
        ),
    ),
)
