"""Is there embolism on this slice? ResNet-50 from scratch, in an hour or less.

pe-unified train short/cls_r50 --data-root data/pe --minutes 60

Time: as given by --minutes.
Result: not measured.
"""

_base_ = "../pe_cls_r50.py"

pretrained = None
input_size = 256
lr = 2e-3
max_iters = 1000
warmup_iters = 100
