"""Start: the backbone of a PE classifier instead of ImageNet weights.

pe-unified train ablations/seg_r50_pe_pretrained --data-root data/pe

The classifier is the result of configs/pe_cls_r50.py; --reuse backbone=FILE selects another.

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: not measured.
"""

_base_ = "../pe_seg_r50.py"

pretrained = None
reuse = dict(backbone="work_dirs/pe_cls_r50/iter_20000.pth")
