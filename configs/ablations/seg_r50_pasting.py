"""Augmentation: emboli of other slices pasted into vessels of every second slice.

pe-unified train ablations/seg_r50_pasting --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; no GPU was measured.
Result: not measured.
"""

_base_ = "../pe_seg_r50.py"

paste_emboli = 0.5
