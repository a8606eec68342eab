"""Which pixels are embolus? ResNet-50, UNet decoder only.

pe-unified train pe_seg_r50 --data-root data/pe

Time: about 29 h on 2 CPU cores with bfloat16 (docs/benchmarks.md); not measured on a GPU.
Result: unknown on public sets; small versions on synthetic sets: docs/results.md, docs/demo.md.
"""

_base_ = [
    "_base_/default_runtime.py",
    "_base_/datasets/pe_slices.py",
    "_base_/schedules/adamw_cosine.py",
    "_base_/models/r50.py",
]

model = dict(cls_head=None, det_head=None)
train_dataloader = dict(dataset=dict(needs=("masks",)))
val_dataloader = dict(dataset=dict(needs=("masks",)))
test_dataloader = dict(dataset=dict(needs=("masks",)))
val_evaluator = [dict(type="SegMetric", resamples=0)]
test_evaluator = [dict(type="SegMetric")]
