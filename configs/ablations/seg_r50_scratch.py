"""Start: ResNet-50 from random weights, against ImageNet in pe_seg_r50.

pe-unified train ablations/seg_r50_scratch --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; no GPU was measured.
Result: not measured.
"""

_base_ = "../pe_seg_r50.py"

pretrained = None
