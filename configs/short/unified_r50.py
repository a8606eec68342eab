"""All three tasks, ResNet-50 from scratch, in an hour or less.

pe-unified train short/unified_r50 --data-root data/pe --minutes 60

Time: as given by --minutes.
Result: slice AUC 0.91, Dice 0.68 on synthetic test patients (docs/learning.md).
"""

_base_ = "../pe_unified_r50.py"

pretrained = None
input_size = 256
lr = 2e-3
max_iters = 1000
warmup_iters = 100
model = dict(task_weights=dict(det=3.0))  # boxes of a few pixels need the most training
