"""Start: the backbone of a PE classifier in place of ImageNet's.

tools/train.py configs/ablations/seg_r50_pe_pretrained.py --data-root data/pe \\
    --reuse backbone=work_dirs/pe_cls_r50/iter_20000.pth
"""

_base_ = "../pe_seg_r50.py"

pretrained = None
