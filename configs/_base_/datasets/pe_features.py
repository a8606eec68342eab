"""Exams as sequences of stored features; ``features`` is the folder of an extraction."""

data_root = "data/pe"
features = None
batch_size = 64
num_workers = 0  # reading features only copies them; a worker takes 0.1 GB and saves little time
masked_label_portion = 0.0
masked_label_mode = "even"

# Settings common to the three loaders and their data sets.
loader = dict(num_workers=num_workers, persistent_workers=True, timeout=300)
exams = dict(
    type="PEExamDataset",
    data_root=data_root,
    features=features,
    needs=("exam",),
    pipeline=[dict(type="LoadStepFeatures"), dict(type="PackExamInputs")],
)
in_order = dict(type="DefaultSampler", shuffle=False)

train_dataloader = dict(
    **loader,
    batch_size=batch_size,
    drop_last=True,
    sampler=dict(type="SliceSampler"),
    dataset=dict(
        **exams,
        ann_file="annotations/train.json",
        masked_label_portion=masked_label_portion,
        masked_label_mode=masked_label_mode,
    ),
)
val_dataloader = dict(
    **loader,
    batch_size=16,
    sampler=in_order,
    dataset=dict(**exams, ann_file="annotations/val.json", test_mode=True),
)
test_dataloader = dict(
    **loader,
    batch_size=16,
    sampler=in_order,
    dataset=dict(**exams, ann_file="annotations/test.json", test_mode=True),
)
del loader, exams, in_order

val_evaluator = [dict(type="ExamMetric", resamples=0), dict(type="StepMetric", resamples=0)]
test_evaluator = [dict(type="ExamMetric"), dict(type="StepMetric")]
