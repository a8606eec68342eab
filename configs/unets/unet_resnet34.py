"""Which pixels are embolus? ResNet-34 with a wide UNet decoder and a centre below it.

pe-unified train unets/unet_resnet34 --data-root data/pe

Time: not measured.
Result: Dice 0.57 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "unet.py"

pretrained = "torchvision://resnet34"

model = dict(
    backbone=dict(
        _delete_=True, type="PEResNet", depth=34, pretrained=pretrained, frozen_stages=-1
    ),
    seg_head=dict(decoder=dict(_delete_=True, type="CentredUNetDecoder")),
)
