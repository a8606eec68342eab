"""2.5D: the slice and its two neighbours as channels, through the PE window.

pe-unified train ablations/seg_r50_neighbours --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: not measured.
"""

_base_ = "../pe_seg_r50.py"

windows = ["pe"]
neighbours = 1
