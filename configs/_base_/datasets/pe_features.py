"""Exams as sequences of stored features; ``features`` is the folder that an extraction made."""

data_root = "data/pe"
features = None
batch_size = 64
num_workers = 2
masked_label_portion = 0.0
masked_label_mode = "even"
pipeline = [dict(type="LoadStepFeatures"), dict(type="PackExamInputs")]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    timeout=300,
    drop_last=True,
    sampler=dict(type="SliceSampler"),
    dataset=dict(
        type="PEExamDataset",
        data_root=data_root,
        ann_file="annotations/train.json",
        features=features,
        needs=("exam",),
        masked_label_portion=masked_label_portion,
        masked_label_mode=masked_label_mode,
        pipeline=pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=num_workers,
    persistent_workers=True,
    timeout=300,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="PEExamDataset",
        data_root=data_root,
        ann_file="annotations/val.json",
        features=features,
        needs=("exam",),
        test_mode=True,
        pipeline=pipeline,
    ),
)
test_dataloader = dict(
    batch_size=16,
    num_workers=num_workers,
    persistent_workers=True,
    timeout=300,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="PEExamDataset",
        data_root=data_root,
        ann_file="annotations/test.json",
        features=features,
        needs=("exam",),
        test_mode=True,
        pipeline=pipeline,
    ),
)
val_evaluator = [dict(type="ExamMetric", resamples=0), dict(type="StepMetric", resamples=0)]
test_evaluator = [dict(type="ExamMetric"), dict(type="StepMetric")]
