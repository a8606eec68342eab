"""Start: ResNet-50 from random weights, instead of ImageNet weights as in pe_seg_r50.

pe-unified train ablations/seg_r50_scratch --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: not measured.
"""

_base_ = "../pe_seg_r50.py"

pretrained = None
