"""Which pixels are embolus? UNet (Ronneberger et al. 2015).

pe-unified train unets/unet --data-root data/pe

Time: not measured.
Result: Dice 0.72 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/pe_slices.py",
    "../_base_/schedules/adamw_cosine.py",
    "../_base_/models/unet.py",
]

train_dataloader = dict(dataset=dict(needs=("masks",)))
val_dataloader = dict(dataset=dict(needs=("masks",)))
test_dataloader = dict(dataset=dict(needs=("masks",)))
val_evaluator = [dict(type="SegMetric", resamples=0)]
test_evaluator = [dict(type="SegMetric")]
