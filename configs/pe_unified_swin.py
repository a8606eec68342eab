"""All three tasks on one Swin-T.

pe-unified train pe_unified_swin --data-root data/pe

Time: about 44 h on 2 CPU cores with bfloat16 (docs/benchmarks.md); not measured on a GPU.
Result: unknown on public sets; a small version on a synthetic set: docs/results.md.
"""

_base_ = [
    "_base_/default_runtime.py",
    "_base_/datasets/pe_slices.py",
    "_base_/schedules/adamw_cosine.py",
    "_base_/models/swin.py",
]

lr = 1e-4
# Masks also supervise where the classification looks.
model = dict(cls_head=dict(mask_weight=1.0))
val_evaluator = [
    dict(type="SliceMetric", resamples=0),
    dict(type="SegMetric", resamples=0),
    dict(type="DetMetric", resamples=0),
]
test_evaluator = [dict(type="SliceMetric"), dict(type="SegMetric"), dict(type="DetMetric")]
