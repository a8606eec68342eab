"""The four exam systems, small, on one set: a recipe that trains all and prints one table.

pe-unified steps demo/exams --data-root data/exam_demo/rsna --jobs 2

Time: see docs/exams.md.
Result: docs/exams.md.
"""

# What all of them share.
small = dict(
    pretrained=None,
    input_size=(80, 112),
    num_workers=0,
    precision="auto",
    warmup_iters=10,
    default_hooks=dict(checkpoint=dict(interval=50)),
)
network = dict(depth=18, base_channels=24)
exam_evaluators = dict(
    val_evaluator=[
        dict(type="SliceMetric", resamples=0),
        dict(type="SlicesToExamMetric", score="max", resamples=0),
    ],
    test_evaluator=[dict(type="SliceMetric"), dict(type="SlicesToExamMetric", score="max")],
)
images = dict(model=dict(encoder=dict(backbone=network)))
chunks = dict(max_iters=120, batch_size=8, lr=2e-3)
on_features = dict(max_iters=200, batch_size=16, lr=2e-3, warmup_iters=20)
on_slices = dict(max_iters=80, batch_size=3, accumulate=1, lr=2e-3)
few_slices = dict(dataset=dict(max_steps=24))

settings = small
steps = [
    # The slice model of the core; an exam's score is its highest slice.
    dict(
        name="slices_maximum",
        config="../exam/winner_slices.py",
        settings=dict(
            max_iters=240,
            batch_size=16,
            lr=3e-3,
            model=dict(backbone=network, cls_head=dict(levels=(-2, -1), dropout=0.0)),
            **exam_evaluators,
        ),
    ),
    # Two phases: chunks in 3D, their features, exams.
    dict(name="chunks", config="../exam/two_phase_chunks.py", settings=chunks),
    dict(
        name="chunk_features",
        config="../exam/two_phase_chunks.py",
        extract=True,
        reuse=dict(encoder="chunks"),
        settings=chunks,
    ),
    dict(
        name="two_phase_published",
        config="../exam/two_phase_published.py",
        features="chunk_features",
        settings=on_features,
    ),
    dict(
        name="two_phase_gru",
        config="../exam/two_phase_gru.py",
        features="chunk_features",
        settings=on_features,
    ),
    # Semi-weak: half of the exams have no slice labels.
    dict(
        name="semi_weak",
        config="../exam/semi_weak.py",
        settings=dict(
            **on_slices,
            **images,
            train_dataloader=few_slices,
            masked_label_portion=0.5,
            masked_label_mode="exams",
        ),
    ),
    # Siamese: pairs of the slices with most lung.
    dict(name="siamese", config="../exam/siamese.py", settings=dict(**on_slices, **images)),
    # Winner-style: features of the slice model, exams, and the heart apart.
    dict(
        name="slice_features",
        config="../exam/winner_features.py",
        extract=True,
        reuse={"encoder.backbone:backbone": "slices_maximum"},
        settings=images,
    ),
    dict(
        name="winner",
        config="../exam/winner_gru.py",
        features="slice_features",
        settings=dict(
            **on_features,
            model=dict(in_channels=192, aggregator=dict(width=64)),
        ),
    ),
    dict(
        name="heart_features",
        config="../exam/winner_heart_features.py",
        extract=True,
        reuse={"encoder.backbone:backbone": "slices_maximum"},
        settings=images,
    ),
    dict(
        name="winner_heart",
        config="../exam/winner_heart.py",
        features="heart_features",
        settings=dict(
            **on_features,
            model=dict(in_channels=192, aggregator=dict(width=64)),
        ),
    ),
]
comparisons = [
    ("exam/auc", "slices_maximum", "winner"),
    ("exam/auc", "slices_maximum", "two_phase_gru"),
    ("exam/auc", "two_phase_published", "two_phase_gru"),
]
