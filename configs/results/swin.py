"""The comparison on Swin-T at 256 x 256, with twice the iterations of ResNet-50 and half its batch.

The backbone needs a lower learning rate than the heads: with ResNet-50's rate for all of it,
seed 0 of s2 ends with a training loss of 0.90; with a fifth of it for the backbone, with 0.61
(synthetic studies, batches of 8, the last of 200 iterations in its log). Windows of 8 patches fit
the maps of 256 x 256 evenly; 7 would cost a fifth more for padding.

pe-unified steps results/swin --data-root data/results/pe --seeds 0 1 2 --jobs 2

Time: 10.5 hours of training on one core of an AMD EPYC with AVX2 for three seeds, float32; by the
same times per iteration, 9 more hours for the controls.
Result: docs/results.md.
"""

_base_ = "./r50.py"

backbone = "swin"
settings = dict(
    input_size=256,
    batch_size=4,
    max_iters=200,
    warmup_iters=20,
    model=dict(backbone=dict(window_size=8)),
    optim_wrapper=dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.2)))),
)
step_settings = dict(
    s7_det=dict(max_iters=300),
    s8_det_reused=dict(max_iters=300),
    s9_unified=dict(max_iters=300),
)
