"""The real recipe on a narrow ResNet-18 and small slices: minutes on two CPU cores.

tools/train_steps.py configs/demo/steps.py --data-root data/demo/pe
"""

_base_ = "../steps/r50.py"

settings = dict(
    pretrained=None,
    input_size=192,
    windows=["embolus", "pe", "lung"],
    batch_size=8,
    num_workers=1,
    max_iters=500,
    warmup_iters=50,
    lr=2e-3,
    model=dict(backbone=dict(depth=18, base_channels=32)),
    custom_hooks=[
        dict(type="MeanLossHook"),
        dict(type="NaNGuardHook"),
        dict(type="ProgressHook"),
        dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.01),
    ],
    default_hooks=dict(checkpoint=dict(interval=100)),
)
