"""Loss: Dice with focal loss in place of cross-entropy.

tools/train.py configs/ablations/seg_r50_focal.py --data-root data/pe
"""

_base_ = "../pe_seg_r50.py"

model = dict(seg_head=dict(bce_weight=0.0, focal_weight=10.0))
