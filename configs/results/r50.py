"""The comparison on ResNet-50 at 128 x 192, from scratch, in runs short enough for a CPU.

Every fourth slice of the test patients and every eighth of the validation patients is evaluated.

pe-unified steps results/r50 --data-root data/results/pe --seeds 0 1 2 --jobs 2

Time: 2.4 hours on 2 CPU cores with avx512_bf16 for all three seeds, next to other work.
Result: docs/results.md.
"""

_base_ = "../steps/r50.py"

settings = dict(
    pretrained=None,
    input_size=(128, 192),
    windows=["embolus", "pe", "lung"],
    batch_size=8,
    num_workers=0,
    max_iters=100,
    warmup_iters=10,
    lr=2e-3,
    default_hooks=dict(checkpoint=dict(interval=50, max_keep=1)),
    val_dataloader=dict(dataset=dict(every=8)),
    test_dataloader=dict(dataset=dict(every=4)),
)

# Boxes of a few pixels need the most training, and learn from positive slices.
detection = dict(
    max_iters=150,
    train_dataloader=dict(sampler=dict(_delete_=True, type="PEOversamplingSampler", factor=12.0)),
)
step_settings = dict(
    s7_det=detection,
    s8_det_reused=detection,
    s9_unified=dict(max_iters=150, model=dict(task_weights=dict(det=3.0))),
)
