"""Augmentation: every second slice with few embolus pixels gives way to parts of four such slices.

pe-unified train ablations/seg_r50_joining --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; no GPU was measured.
Result: not measured.
"""

_base_ = "../pe_seg_r50.py"

join_slices = 0.5
