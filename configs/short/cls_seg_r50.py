"""Which slices, which pixels? ResNet-50 from scratch, in an hour or less.

pe-unified train short/cls_seg_r50 --data-root data/pe --minutes 60

Time: as given by --minutes.
Result: on synthetic patients after 2,000 iterations with inputs of 192 x 256, slice AUC 0.90 and
Dice 0.66 with 24 training studies, 0.92 and 0.78 with 100 (docs/learning.md).
"""

_base_ = "../pe_cls_seg_r50.py"

pretrained = None
input_size = 256
lr = 2e-3
max_iters = 1000
warmup_iters = 100
