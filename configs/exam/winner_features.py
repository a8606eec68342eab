"""Features of every slice with its neighbours, from winner_slices.py.

pe-unified extract exam/winner_features --data-root data/pe \
    --reuse encoder.backbone:backbone=work_dirs/winner_slices/iter_20000.pth

Time: not measured.
Result: unknown.
"""

_base_ = "shared_features.py"

input_size = 576
windows = ["pe"]
neighbours = 1
