"""Start: Swin-T from random weights, against ImageNet in pe_seg_swin.

tools/train.py configs/ablations/seg_swin_scratch.py --data-root data/pe
"""

_base_ = "../pe_seg_swin.py"

pretrained = None
