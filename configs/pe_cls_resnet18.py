"""Classification of slices on ResNet-18 from timm.

pe-unified train pe_cls_resnet18 --data-root data/pe

Time: not measured.
Result: not measured.
"""

_base_ = "pe_cls_convnext.py"

model = dict(backbone=dict(model_name="resnet18"))
