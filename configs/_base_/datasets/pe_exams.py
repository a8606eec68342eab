"""Exams of a converted data set as sequences of slices, cropped to the lungs."""

data_root = "data/pe"
input_size = 256
windows = ["pe"]
neighbours = 1
batch_size = 4
num_workers = 2
masked_label_portion = 0.0
masked_label_mode = "even"

train_pipeline = [
    dict(type="LoadExamSlices"),
    dict(type="CropToLungs", margin_mm=10.0, jitter=0.05, size=input_size),
    dict(type="ResizeSlice", size=input_size),
    dict(type="RandomSliceGeometry", flip=0.5, rotate=10.0, scale=(0.9, 1.1)),
    dict(type="HUJitter"),
    dict(type="CTWindows", windows=windows),
    dict(type="PackExamInputs"),
]
test_pipeline = [
    dict(type="LoadExamSlices"),
    dict(type="CropToLungs", margin_mm=10.0, size=input_size),
    dict(type="ResizeSlice", size=input_size),
    dict(type="CTWindows", windows=windows),
    dict(type="PackExamInputs"),
]

# Settings common to the three loaders and their data sets.
loader = dict(num_workers=num_workers, persistent_workers=True, timeout=300)
exams = dict(
    type="PEExamDataset",
    data_root=data_root,
    steps=dict(type="SliceSteps", neighbours=neighbours, span="lungs"),
    needs=("exam",),
)
tested = dict(**exams, test_mode=True, pipeline=test_pipeline)
in_order = dict(type="DefaultSampler", shuffle=False)

train_dataloader = dict(
    **loader,
    batch_size=batch_size,
    drop_last=True,
    sampler=dict(type="ClassBalancedSampler"),
    dataset=dict(
        **exams,
        ann_file="annotations/train.json",
        masked_label_portion=masked_label_portion,
        masked_label_mode=masked_label_mode,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    **loader,
    batch_size=1,
    sampler=in_order,
    dataset=dict(**tested, ann_file="annotations/val.json"),
)
test_dataloader = dict(
    **loader,
    batch_size=1,
    sampler=in_order,
    dataset=dict(**tested, ann_file="annotations/test.json"),
)
del loader, exams, tested, in_order

val_evaluator = [dict(type="ExamMetric", resamples=0), dict(type="StepMetric", resamples=0)]
test_evaluator = [dict(type="ExamMetric"), dict(type="StepMetric")]
