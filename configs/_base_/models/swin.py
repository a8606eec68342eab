"""PEUnified on Swin-T."""

_base_ = "heads.py"

pretrained = "torchvision://swin_t"
frozen_stages = -1

model = dict(
    backbone=dict(
        type="PESwin", drop_path_rate=0.1, pretrained=pretrained, frozen_stages=frozen_stages
    ),
)
