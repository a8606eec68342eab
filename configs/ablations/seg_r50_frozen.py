"""Frozen backbone: only the decoder learns; --reuse backbone=... shows the value of PE features.

pe-unified train ablations/seg_r50_frozen --data-root data/pe

Time: less than the 29 h of pe_seg_r50 on 2 CPU cores, since the backbone is frozen; not measured.
Result: not measured.
"""

_base_ = "../pe_seg_r50.py"

frozen_stages = 4
