"""Which slices, which pixels? ResNet-50 from scratch, in an hour or less.

pe-unified train short/cls_seg_r50 --data-root data/pe --minutes 60

Time: as given by --minutes.
Result: slice AUC 0.92, Dice 0.78 on synthetic patients after 2,000 iterations (docs/learning.md).
"""

_base_ = "../pe_cls_seg_r50.py"

pretrained = None
input_size = 256
lr = 2e-3
max_iters = 1000
warmup_iters = 100
