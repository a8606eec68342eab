"""Classification of slices on ResNet-18, by timm.

pe-unified train pe_cls_resnet18 --data-root data/pe

Time: not measured.
Result: not measured.
"""

_base_ = "pe_cls_r50.py"

pretrained = "timm://"

model = dict(
    backbone=dict(
        _delete_=True,
        type="PETimm",
        model_name="resnet18",
        pretrained=pretrained,
        frozen_stages=-1,
    ),
)
