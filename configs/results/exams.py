"""The exam systems of the demo, trained longer.

pe-unified steps results/exams --data-root data/exams/rsna --seeds 0 1 2 --jobs 2

Time: 75 minutes on 2 CPU cores with bfloat16 for three seeds, with other jobs running.
Result: docs/results.md.
"""

_base_ = "../demo/exams.py"

_exams = dict(max_iters=300)
_features = dict(max_iters=600)
step_settings = dict(
    slices_maximum=dict(max_iters=4000),
    chunks=dict(max_iters=500),
    two_phase_published=_features,
    two_phase_gru=_features,
    semi_weak_published=_exams,
    semi_weak=_exams,
    siamese_published=_exams,
    siamese=_exams,
    winner=_features,
    winner_heart=_features,
)
