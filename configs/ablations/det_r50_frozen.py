"""Frozen backbone: only the detection branch learns.

tools/train.py configs/ablations/det_r50_frozen.py --data-root data/pe
"""

_base_ = "../pe_det_r50.py"

frozen_stages = 4
