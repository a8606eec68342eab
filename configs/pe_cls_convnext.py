"""Classification of slices on ConvNeXt-T from timm.

pe-unified train pe_cls_convnext --data-root data/pe

Time: not measured.
Result: not measured.
"""

_base_ = "pe_cls_r50.py"

pretrained = "timm://"

model = dict(
    backbone=dict(
        _delete_=True,
        type="PETimm",
        model_name="convnext_tiny",
        pretrained=pretrained,
        frozen_stages=-1,
    ),
)
