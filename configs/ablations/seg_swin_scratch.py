"""Start: Swin-T from random weights, against ImageNet in pe_seg_swin.

tools/train.py configs/ablations/seg_swin_scratch.py --data-root data/pe

Time: as pe_seg_swin, about 40 h on 2 CPU cores with bfloat16; no GPU was measured.
Result: not measured.
"""

_base_ = "../pe_seg_swin.py"

pretrained = None
