"""PEExam with a ResNet-50 that encodes every step; heads and aggregator are set per config."""

pretrained = "torchvision://resnet50"
frozen_stages = -1

model = dict(
    type="PEExam",
    data_preprocessor=dict(type="PEExamPreprocessor"),
    encoder=dict(
        type="BackboneEncoder",
        backbone=dict(
            type="PEResNet", depth=50, pretrained=pretrained, frozen_stages=frozen_stages
        ),
    ),
)
