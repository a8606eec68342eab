"""Where are the emboli? ResNet-50, Faster R-CNN only.

pe-unified train pe_det_r50 --data-root data/pe

Time: about 23 h on 2 CPU cores with bfloat16 (docs/benchmarks.md); not measured on a GPU.
Result: unknown on public sets; small versions on synthetic sets: docs/results.md, docs/demo.md.
"""

_base_ = [
    "_base_/default_runtime.py",
    "_base_/datasets/pe_slices.py",
    "_base_/schedules/adamw_cosine.py",
    "_base_/models/r50.py",
]

model = dict(cls_head=None, seg_head=None)
train_dataloader = dict(dataset=dict(needs=("boxes",)))
val_dataloader = dict(dataset=dict(needs=("boxes",)))
test_dataloader = dict(dataset=dict(needs=("boxes",)))
val_evaluator = [dict(type="DetMetric", resamples=0)]
test_evaluator = [dict(type="DetMetric")]
