"""A converted data set: three windows as channels, cropped to the lungs.

paste_emboli and join_slices are the probabilities of PasteEmboli and JoinSlices in training;
structures is a folder with artery masks, one folder or label map per patient: emboli are then
pasted into arteries only, with the masks kept in store, a folder of the data set. lung_crop=False
keeps whole slices.
"""

data_root = "data/pe"
input_size = 512
windows = ["lung", "pe", "mediastinal"]
neighbours = 0
lung_crop = True
paste_emboli = 0.0
join_slices = 0.0
structures = None
store = "volumes"
batch_size = 8
num_workers = 2

train_pipeline = [
    dict(type="LoadCTSlice"),
    dict(type="LoadPELabels"),
    dict(type="CropToLungs", margin_mm=10.0, jitter=0.05, size=input_size),
    dict(type="PasteEmboli", probability=paste_emboli),
    dict(type="ResizeSlice", size=input_size),
    dict(type="JoinSlices", probability=join_slices),
    dict(type="RandomSliceGeometry", flip=0.5, rotate=10.0, scale=(0.9, 1.1), elastic=0.2),
    dict(type="HUJitter"),
    dict(type="CTWindows", windows=windows),
    dict(type="PackPEInputs"),
]
test_pipeline = [
    dict(type="LoadCTSlice"),
    dict(type="CropToLungs", margin_mm=10.0, size=input_size),
    dict(type="ResizeSlice", size=input_size),
    dict(type="CTWindows", windows=windows),
    dict(type="LoadPELabels"),
    dict(type="PackPEInputs"),
]

# Settings common to the three loaders and their data sets.
loader = dict(batch_size=batch_size, num_workers=num_workers, persistent_workers=True, timeout=300)
slices = dict(type="PESliceDataset", data_root=data_root, needs=("slice",), neighbours=neighbours)
tested = dict(**slices, test_mode=True, pipeline=test_pipeline)
in_order = dict(type="DefaultSampler", shuffle=False)

train_dataloader = dict(
    **loader,
    drop_last=True,
    sampler=dict(type="ClassBalancedSampler"),
    dataset=dict(
        **slices,
        ann_file="annotations/train.json",
        structures=structures,
        store=store,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    **loader, sampler=in_order, dataset=dict(**tested, ann_file="annotations/val.json")
)
test_dataloader = dict(
    **loader, sampler=in_order, dataset=dict(**tested, ann_file="annotations/test.json")
)
del loader, slices, tested, in_order
