"""Start: Swin-T from random weights, instead of ImageNet weights as in pe_seg_swin.

pe-unified train ablations/seg_swin_scratch --data-root data/pe

Time: as pe_seg_swin, about 40 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: not measured.
"""

_base_ = "../pe_seg_swin.py"

pretrained = None
