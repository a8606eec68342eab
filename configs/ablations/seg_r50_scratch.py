"""Start: ResNet-50 from random weights, against ImageNet in pe_seg_r50.

tools/train.py configs/ablations/seg_r50_scratch.py --data-root data/pe
"""

_base_ = "../pe_seg_r50.py"

pretrained = None
