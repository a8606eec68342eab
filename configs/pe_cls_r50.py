"""Is there embolism on this slice? ResNet-50, classification only.

pe-unified train pe_cls_r50 --data-root data/pe

Time: about 25 h on 2 CPU cores with bfloat16 (docs/benchmarks.md); not measured on a GPU.
Result: unknown on public sets; small versions on synthetic sets: docs/results.md, docs/demo.md.
"""

_base_ = [
    "_base_/default_runtime.py",
    "_base_/datasets/pe_slices.py",
    "_base_/schedules/adamw_cosine.py",
    "_base_/models/r50.py",
]

model = dict(seg_head=None, det_head=None)
val_evaluator = [dict(type="SliceMetric", resamples=0)]
test_evaluator = [dict(type="SliceMetric")]
