"""AdamW, linear warm-up, cosine decay.

With swa_share=0.25, the weights of the last quarter of training are averaged (SWA), at a constant
rate of swa_lr_ratio * lr, to which the cosine decays before; None: a running average throughout.
"""

max_iters = 20000
warmup_iters = 500
lr = 2e-4
accumulate = 1
swa_share = None
swa_lr_ratio = 0.25
precision = "auto"

optim_wrapper = dict(
    type="PrecisionOptimWrapper",
    precision=precision,
    accumulative_counts=accumulate,
    clip_grad=dict(max_norm=5.0),
    optimizer=dict(type="AdamW", lr=lr, weight_decay=0.05, fused=True),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=warmup_iters,
        end=max_iters,
        T_max=max_iters - warmup_iters,
        eta_min_ratio=0.01,
    ),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=2000)
val_cfg = dict(type="ValLoop", fp16=False)
test_cfg = dict(type="TestLoop", fp16=False)
