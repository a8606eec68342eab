"""Does this slice show lung? Stage one of the siamese system, on a ResNet-18.

A slice shows lung where it has at least half of the largest share of lung in its exam
(lung_from). A low threshold calls nearly every slice of a chest positive, and a classifier that is
sure of all of them puts them in no useful order. Shares are compared within an exam, as they depend
on the field of view.

The network sees whole slices: a crop to the lungs would give the answer away. What it learned from
sets with Hounsfield units it can tell of pictures without them; where there are Hounsfield units,
the share of lung itself chooses as well, without a network (exam/siamese).

pe-unified train exam/lung_slices --data-root data/pe

The metric is lung/auc: of slices with lung against slices without, not of embolism.

Time: not measured.
Result: not known.
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

# A lung is no matter of a few pixels.
model = dict(backbone=dict(depth=18), cls_head=dict(levels=(-1,), evidence_channels=0))
val_evaluator = [dict(type="LungMetric", resamples=0)]
test_evaluator = [dict(type="LungMetric")]
