"""The lung classifier with the published network, EfficientNetV2-S from timm.

Its authors call it a lung classifier but trained it on embolism; this one learns lung, as described
in lung_slices.py. Their learning rate follows one cycle (OneCycle); the schedule here has the same
shape.

pe-unified train exam/lung_slices_published --data-root data/pe

Time: not measured.
Result: unknown.
"""

_base_ = "lung_slices.py"

pretrained = "timm://"
lr = 6e-4

model = dict(
    backbone=dict(
        _delete_=True,
        type="PETimm",
        model_name="tf_efficientnetv2_s",
        pretrained=pretrained,
        frozen_stages=-1,
    ),
)
