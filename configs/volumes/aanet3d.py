"""AANet-3D on volumes of 1 mm: emboli where the network sees arteries (Guan et al., MICCAI 2022).

pe-unified train volumes/aanet3d --data-root data/cadpe --cfg-options structures=STRUCTURES

Published are 500 epochs with 8 studies per batch, 4 of them for warm-up; the iterations are 500
times the training studies divided by 8. Those here are for the 71 training studies of CAD-PE.

Time: not measured.
Result: unknown.
"""

_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/pe_volumes.py",
    "../_base_/schedules/adamw_cosine.py",
    "../_base_/models/aanet3d.py",
]

max_iters = 4450
warmup_iters = 36
lr = 1e-3

optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=warmup_iters,
        end=max_iters,
        T_max=max_iters - warmup_iters,
        eta_min_ratio=0.01,
    ),
]
train_cfg = dict(val_interval=445)
default_hooks = dict(checkpoint=dict(interval=445, save_best="lesion/mean_sensitivity"))
