"""Frozen backbone: only the decoder learns; with --reuse backbone=..., what PE features give.

tools/train.py configs/ablations/seg_r50_frozen.py --data-root data/pe
"""

_base_ = "../pe_seg_r50.py"

frozen_stages = 4
