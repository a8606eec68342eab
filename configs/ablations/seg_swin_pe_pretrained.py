"""Start: the backbone of a PE classifier in place of ImageNet's.

tools/train.py configs/ablations/seg_swin_pe_pretrained.py --data-root data/pe

The classifier is where configs/pe_cls_swin.py leaves it; --reuse backbone=FILE names another one.
"""

_base_ = "../pe_seg_swin.py"

pretrained = None
reuse = dict(backbone="work_dirs/pe_cls_swin/iter_20000.pth")
