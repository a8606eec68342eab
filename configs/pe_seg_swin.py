"""Which pixels are embolus? Swin-T, UNet decoder only.

pe-unified train pe_seg_swin --data-root data/pe

Time: about 40 h on 2 CPU cores with bfloat16 (docs/benchmarks.md); not measured on a GPU.
Result: unknown on public sets; a small version on a synthetic set: docs/results.md.
"""

_base_ = [
    "_base_/default_runtime.py",
    "_base_/datasets/pe_slices.py",
    "_base_/schedules/adamw_cosine.py",
    "_base_/models/swin.py",
]

lr = 1e-4
model = dict(cls_head=None, det_head=None)
train_dataloader = dict(dataset=dict(needs=("masks",)))
val_dataloader = dict(dataset=dict(needs=("masks",)))
test_dataloader = dict(dataset=dict(needs=("masks",)))
val_evaluator = [dict(type="SegMetric", resamples=0)]
test_evaluator = [dict(type="SegMetric")]
