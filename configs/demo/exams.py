"""The four exam systems, small, on one set, and for comparison the classifier's highest slice.

Slice networks start from the classifier's backbone; the forms "as published" from scratch.

pe-unified steps demo/exams --data-root data/exam_demo/rsna --jobs 2

Time: 7 minutes on 2 CPU cores with bfloat16, with all of `make exam-demo`.
Result: too few exams to decide; configs/results/exams.py trains longer on more (docs/results.md).
"""

network = dict(depth=18, base_channels=24)
images = dict(backbone=network, evidence_channels=32)
# The highest slice probability is the answer for an exam.
of_exams = dict(type="SlicesToExamMetric", score="max")
slices = dict(
    max_iters=600,
    batch_size=16,
    lr=2e-3,
    model=dict(
        backbone=network,
        cls_head=dict(levels=(-4, -3, -2, -1), dropout=0.0, evidence_channels=32),
    ),
    val_evaluator=[dict(type="SliceMetric", resamples=0), dict(**of_exams, resamples=0)],
    test_evaluator=[dict(type="SliceMetric"), of_exams],
)
chunks = dict(
    input_size=(72, 96),
    max_iters=200,
    batch_size=8,
    lr=2e-3,
    model=dict(encoder=dict(base_channels=16)),
)
whole_exams = dict(max_iters=120, batch_size=3, accumulate=1, lr=1e-3)
on_features = dict(max_iters=200, batch_size=16, accumulate=1, lr=2e-3)
of_chunks = dict(**on_features, model=dict(in_channels=128))
of_slices = dict(**on_features, model=dict(in_channels=194, aggregator=dict(width=64)))
few_slices = dict(train_dataloader=dict(dataset=dict(max_steps=24)))
all_exams = dict(dataset=dict(indeterminate="unknown"))
from_slices = {
    "encoder.backbone:backbone": "slices_maximum",
    "encoder.evidence:cls_head.evidence": "slices_maximum",
}

settings = dict(
    pretrained=None,
    input_size=(96, 128),
    windows=["embolus", "pe", "lung"],
    neighbours=0,
    num_workers=0,
    warmup_iters=20,
    default_hooks=dict(checkpoint=dict(interval=100)),
)
steps = [
    dict(name="slices_maximum", config="../exam/winner_slices.py", settings=slices),
    # Two phases: 3D chunks, their features, exams.
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
        settings=of_chunks,
    ),
    dict(
        name="two_phase_gru",
        config="../exam/two_phase_gru.py",
        features="chunk_features",
        settings=of_chunks,
    ),
    # Labels of slices and exams together.
    dict(
        name="semi_weak_published",
        config="../exam/semi_weak_published.py",
        settings=dict(
            **whole_exams,
            **few_slices,
            frozen_stages=-1,
            # Tested on the same exams as the others, for comparison.
            val_dataloader=all_exams,
            test_dataloader=all_exams,
            model=dict(
                encoder=dict(
                    _delete_=True,
                    type="BackboneEncoder",
                    backbone=dict(type="PEResNet", **network),
                    projection=64,
                )
            ),
        ),
    ),
    dict(
        name="semi_weak",
        config="../exam/semi_weak.py",
        reuse=from_slices,
        settings=dict(**whole_exams, **few_slices, model=dict(encoder=images)),
    ),
    # Pairs of the slices with the largest share of lung.
    dict(
        name="siamese_published",
        config="../exam/siamese_published.py",
        settings=dict(
            **whole_exams,
            windows=["lung", "pe", "mediastinal"],
            model=dict(encoder=dict(widths=(8, 16, 16, 32, 64), out_channels=64)),
        ),
    ),
    dict(
        name="siamese",
        config="../exam/siamese.py",
        reuse=from_slices,
        settings=dict(**whole_exams, model=dict(encoder=images)),
    ),
    # Winner style: features of the slice model, exams from these, and the heart separately.
    dict(
        name="slice_features",
        config="../exam/winner_features.py",
        extract=True,
        reuse=from_slices,
        settings=dict(model=dict(encoder=images)),
    ),
    dict(
        name="winner",
        config="../exam/winner_gru.py",
        features="slice_features",
        settings=of_slices,
    ),
    dict(
        name="heart_features",
        config="../exam/winner_heart_features.py",
        extract=True,
        reuse=from_slices,
        settings=dict(windows=[(50, 350)] * 3, model=dict(encoder=images)),
    ),
    dict(
        name="winner_heart",
        config="../exam/winner_heart.py",
        features="heart_features",
        settings=of_slices,
    ),
]
comparisons = [
    ("exam/auc", "slices_maximum", "two_phase_gru"),
    ("exam/auc", "slices_maximum", "semi_weak"),
    ("exam/auc", "slices_maximum", "siamese"),
    ("exam/auc", "slices_maximum", "winner"),
    ("exam/auc", "two_phase_published", "two_phase_gru"),
    ("exam/auc", "semi_weak_published", "semi_weak"),
    ("exam/auc", "siamese_published", "siamese"),
]
arms = ("reference", "system")
