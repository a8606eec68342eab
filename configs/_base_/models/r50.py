"""PEUnified on ResNet-50, all three heads; a task config drops heads with ``seg_head=None``."""

pretrained = "torchvision://resnet50"
frozen_stages = -1

model = dict(
    type="PEUnified",
    data_preprocessor=dict(type="PEDataPreprocessor", channels_last=True),
    backbone=dict(type="PEResNet", depth=50, pretrained=pretrained, frozen_stages=frozen_stages),
    cls_head=dict(type="PEClsHead", pool="avg+max", levels=(-1,), dropout=0.1),
    seg_head=dict(type="PESegHead", decoder=dict(out_stride=2, detail_channels=16)),
    det_head=dict(type="PEDetHead"),
    task_weights=dict(cls=1.0, seg=1.0, det=1.0),
)
