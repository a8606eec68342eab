"""Start: the backbone of a PE classifier instead of ImageNet weights.

pe-unified train ablations/seg_swin_pe_pretrained --data-root data/pe

The classifier is the result of configs/pe_cls_swin.py; --reuse backbone=FILE selects another.

Time: as pe_seg_swin, about 40 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: not measured.
"""

_base_ = "../pe_seg_swin.py"

pretrained = None
reuse = dict(backbone="work_dirs/pe_cls_swin/iter_20000.pth")
