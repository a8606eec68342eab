"""Frozen backbone: only the detection branch learns.

pe-unified train ablations/det_r50_frozen --data-root data/pe

Time: less than the 23 h of pe_det_r50 on 2 CPU cores, since the backbone is frozen; not measured.
Result: not measured.
"""

_base_ = "../pe_det_r50.py"

frozen_stages = 4
