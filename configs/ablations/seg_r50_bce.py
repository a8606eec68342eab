"""Loss: cross-entropy alone, without Dice.

tools/train.py configs/ablations/seg_r50_bce.py --data-root data/pe
"""

_base_ = "../pe_seg_r50.py"

model = dict(seg_head=dict(dice_weight=0.0))
