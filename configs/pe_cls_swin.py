"""Is there embolism on this slice? Swin-T, classification alone.

tools/train.py configs/pe_cls_swin.py --data-root data/pe
"""

_base_ = [
    "_base_/default_runtime.py",
    "_base_/datasets/pe_slices.py",
    "_base_/schedules/adamw_cosine.py",
    "_base_/models/swin.py",
]

lr = 1e-4
model = dict(seg_head=None, det_head=None)
val_evaluator = [dict(type="SliceMetric", resamples=0)]
test_evaluator = [dict(type="SliceMetric")]
