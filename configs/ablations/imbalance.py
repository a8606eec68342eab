"""Remedies for class imbalance, one change at a time: a narrow ResNet-18 on small slices.

pe-unified steps ablations/imbalance --data-root data/imbalance/fumpe --seeds 0 1 2 --jobs 2

Time: about two minutes a step and seed on one CPU core with bfloat16, 17 steps.
Result: on synthetic slices SWA gains 0.02 Dice, and no loss beats Dice and cross-entropy
(docs/imbalance.md).
"""

settings = dict(
    pretrained=None,
    # Synthetic slices have 256 columns, of which the lungs cover about 200.
    input_size=(144, 192),
    windows=["embolus", "pe", "lung"],
    batch_size=16,
    num_workers=0,
    max_iters=200,
    warmup_iters=20,
    lr=4e-3,
    model=dict(
        backbone=dict(depth=18, base_channels=32),
        seg_head=dict(decoder=dict(channels=(64, 48, 32, 24), skip_channels=32, detail_channels=8)),
    ),
    default_hooks=dict(checkpoint=dict(interval=100, max_keep=1)),
)
steps = [
    dict(name="baseline", config="../pe_seg_r50.py"),
    # Losses: Dice or cross-entropy replaced, or both.
    dict(name="focal", config="seg_r50_focal_only.py"),
    dict(name="dice_focal", config="seg_r50_focal.py"),
    dict(name="symmetric_ce", config="seg_r50_symmetric_ce.py"),
    dict(name="tversky", config="seg_r50_tversky.py"),
    dict(name="focal_tversky", config="seg_r50_focal_tversky.py"),
    dict(name="generalised_dice", config="seg_r50_generalised_dice.py"),
    dict(name="lovasz", config="seg_r50_lovasz.py"),
    # Slices: their selection and content.
    dict(name="natural", config="seg_r50_natural.py"),
    dict(name="by_area", config="seg_r50_by_area.py"),
    dict(name="pasting", config="seg_r50_pasting.py"),
    dict(name="joining", config="seg_r50_joining.py"),
    dict(name="whole_slice", config="seg_r50_whole_slice.py"),
    # Weights and learning rate.
    dict(name="no_average", config="seg_r50_no_average.py"),
    dict(name="swa", config="seg_r50_swa.py"),
    dict(name="constant_rate", config="seg_r50_constant_rate.py"),
    dict(
        name="combined",
        config="seg_r50_focal_tversky.py",
        settings=dict(paste_emboli=0.5, join_slices=0.5),
    ),
]
comparisons = [
    ("seg/dice", "baseline", step["name"]) for step in steps if step["name"] != "baseline"
]
arms = ("baseline", "changed")
