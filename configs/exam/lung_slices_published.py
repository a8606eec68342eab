"""The lung classifier on the network that was published, EfficientNetV2-S by timm.

Its authors call it a classifier of lung, but trained it on embolism; this one learns lung, as
lung_slices.py says. Theirs warms up and falls in one cycle (OneCycle); the schedule here has the
same shape.

pe-unified train exam/lung_slices_published --data-root data/pe

Time: not measured.
Result: not known.
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
