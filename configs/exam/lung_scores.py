"""A lung score for every slice of every exam, from lung_slices.py; LungSlices selects by it.

The score is the log-odds, stored like features, one number per slice.

pe-unified extract exam/lung_scores --data-root data/pe \
    --reuse encoder.backbone:backbone=CHECKPOINT encoder.cls_head:cls_head=CHECKPOINT

Time: not measured.
Result: unknown.
"""

_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/pe_exams.py",
    "../_base_/schedules/adamw_cosine.py",
    "../_base_/models/exam_r50.py",
]

input_size = 224
windows = ["lung", "pe", "mediastinal"]
neighbours = 0
pretrained = None

whole_slices = [
    dict(type="LoadExamSlices"),
    dict(type="ResizeSlice", size=input_size),
    dict(type="CTWindows", windows=windows),
    dict(type="PackExamInputs"),
]
every_slice = dict(type="SliceSteps", neighbours=neighbours, span="all")
train_dataloader = dict(dataset=dict(steps=every_slice, pipeline=whole_slices))
val_dataloader = dict(dataset=dict(steps=every_slice, pipeline=whole_slices))
test_dataloader = dict(dataset=dict(steps=every_slice, pipeline=whole_slices))
model = dict(
    encoder=dict(
        type="ClassifierEncoder",
        backbone=dict(depth=18),
        cls_head=dict(type="PEClsHead", pool="avg+max", levels=(-1,), normalise=True),
    ),
    step_head=dict(type="StepHead"),
)
val_evaluator = [dict(type="StepMetric", resamples=0)]
test_evaluator = [dict(type="StepMetric")]
