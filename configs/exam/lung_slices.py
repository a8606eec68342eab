"""Does this slice show lung? Stage one of the siamese system, on a ResNet-18.

A slice shows lung if it has at least half of the largest lung share in its exam (lung_from). With a
low threshold nearly every slice of a chest would be positive, and a classifier that is sure of all
of them gives no useful order. Shares are compared within an exam, since they depend on the field
of view.

The network sees whole slices, because a crop to the lungs would reveal the answer. It learns from
sets with Hounsfield units and can be applied to images without them. With Hounsfield units, the
lung share itself selects slices as well, without a network (exam/siamese).

pe-unified train exam/lung_slices --data-root data/pe

The metric lung/auc is for slices with lung against slices without, not for embolism.

Time: not measured.
Result: unknown.
"""

_base_ = "../pe_cls_r50.py"

input_size = 224
windows = ["lung", "pe", "mediastinal"]
batch_size = 32
pretrained = "torchvision://resnet18"

train_pipeline = [
    dict(type="LoadCTSlice"),
    dict(type="LoadPELabels"),
    dict(type="ResizeSlice", size=input_size),
    dict(type="RandomSliceGeometry", flip=0.5, rotate=10.0, scale=(0.9, 1.1), elastic=0.2),
    dict(type="HUJitter"),
    dict(type="CTWindows", windows=windows),
    dict(type="PackPEInputs"),
]
test_pipeline = [
    dict(type="LoadCTSlice"),
    dict(type="ResizeSlice", size=input_size),
    dict(type="CTWindows", windows=windows),
    dict(type="LoadPELabels"),
    dict(type="PackPEInputs"),
]
train_dataloader = dict(dataset=dict(label="lung", lung_from=0.5, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(label="lung", lung_from=0.5, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(label="lung", lung_from=0.5, pipeline=test_pipeline))

# Lungs are large, so coarse features suffice.
model = dict(backbone=dict(depth=18), cls_head=dict(levels=(-1,), evidence_channels=0))
val_evaluator = [dict(type="LungMetric", resamples=0)]
test_evaluator = [dict(type="LungMetric")]
