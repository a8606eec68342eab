"""UNet on ResNet-50 from segmentation_models_pytorch, trained as in that library's examples.

pe-unified benchmark learn --configs benchmarks/smp_unet_r50 pe_seg_r50 --data-root data/pe

The reference in the learning benchmark: Adam, a cosine without warm-up, Dice only, whole slices,
equally frequent, flips, no average of weights, no clipping
(https://github.com/qubvel-org/segmentation_models.pytorch, examples). Precision, batch size and
windows are those of the config it is compared with.

Time: as given by --minutes. Result: not measured.
"""

_base_ = "../unets/smp_unet_plus_plus.py"

pretrained = None
lung_crop = False
lr = 2e-4
warmup_iters = 0

model = dict(
    seg_head=dict(
        decoder=dict(arch="Unet", encoder="resnet50", pretrained=pretrained),
        losses=[dict(type="segmentation_models_pytorch.losses.DiceLoss", mode="binary")],
        prior=0.5,
    )
)
optim_wrapper = dict(
    clip_grad=None,
    optimizer=dict(_delete_=True, type="Adam", lr=lr),
)
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=False, begin=0, end=20000, T_max=20000, eta_min=1e-5)
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type="InfiniteSampler", shuffle=True),
    dataset=dict(
        pipeline=[
            dict(type="LoadCTSlice"),
            dict(type="LoadPELabels"),
            dict(type="ResizeSlice", size=512),
            dict(type="RandomSliceGeometry", flip=0.5, rotate=0.0, scale=(1.0, 1.0), elastic=0.0),
            dict(type="CTWindows", windows=["lung", "pe", "mediastinal"]),
            dict(type="PackPEInputs"),
        ]
    ),
)
default_hooks = dict(average=None)
