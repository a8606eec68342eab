"""Volumes of a converted data set on an even grid over the lungs: patches and whole volumes."""

data_root = "data/pe"
structures = None  # folder with masks of arteries, one folder or label map per patient
store = "volumes"  # folder of the data set for volumes that were resampled
step_mm = 1.0
patch_size = 96
batch_size = 8  # studies
num_workers = 8

train_pipeline = [
    dict(
        type="LoadVolumePatches",
        size=patch_size,
        count=2,
        positive_share=0.75,
        geometry=dict(rotate=30.0, quarter_turns=True, flip=0.5, scale=(0.8, 1.2)),
    ),
    dict(type="PackVolumeInputs"),
]
test_pipeline = [dict(type="LoadVolume"), dict(type="PackVolumeInputs")]

# Settings common to the three loaders and their data sets.
loader = dict(num_workers=num_workers, persistent_workers=True, timeout=600)
volumes = dict(
    type="PEVolumeDataset",
    data_root=data_root,
    structures=structures,
    store=store,
    step_mm=step_mm,
)
tested = dict(**volumes, test_mode=True, pipeline=test_pipeline)
in_order = dict(type="DefaultSampler", shuffle=False)

train_dataloader = dict(
    **loader,
    batch_size=batch_size,
    drop_last=True,
    sampler=dict(type="SliceSampler"),
    dataset=dict(**volumes, ann_file="annotations/train.json", pipeline=train_pipeline),
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
del loader, volumes, tested, in_order

val_evaluator = [dict(type="LesionMetric", resamples=0), dict(type="ArteryMetric", resamples=0)]
test_evaluator = [dict(type="LesionMetric"), dict(type="ArteryMetric")]
