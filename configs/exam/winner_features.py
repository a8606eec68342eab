"""Features of every slice, with its neighbours, by winner_slices.py.

pe-unified extract exam/winner_features --data-root data/pe \\
    --reuse encoder.backbone:backbone=work_dirs/winner_slices/iter_20000.pth

Time: not measured at this size; that of the small form is in docs/exams.md.
Result: not known on a public set; on painted exams, made small: docs/exams.md.
"""

_base_ = "shared_features.py"

input_size = 576
windows = ["pe"]
neighbours = 1
