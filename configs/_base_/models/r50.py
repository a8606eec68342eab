"""PEUnified on ResNet-50."""

_base_ = "heads.py"

pretrained = "torchvision://resnet50"
frozen_stages = -1

model = dict(
    backbone=dict(type="PEResNet", depth=50, pretrained=pretrained, frozen_stages=frozen_stages),
)
