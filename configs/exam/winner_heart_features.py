"""Features of slices through the heart, in a window for its blood, for the RV/LV ratio.

pe-unified extract exam/winner_heart_features --data-root data/pe \
    --reuse encoder.backbone:backbone=work_dirs/winner_slices/iter_20000.pth

Time: not measured.
Result: unknown.
"""

_base_ = "winner_features.py"

windows = [(50, 350)]

heart = dict(_delete_=True, type="SliceSteps", neighbours=1, span="heart")
train_dataloader = dict(dataset=dict(steps=heart))
val_dataloader = dict(dataset=dict(steps=heart))
test_dataloader = dict(dataset=dict(steps=heart))
