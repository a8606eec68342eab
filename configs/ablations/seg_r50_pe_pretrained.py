"""Start: the backbone of a PE classifier in place of ImageNet's.

pe-unified train ablations/seg_r50_pe_pretrained --data-root data/pe

The classifier is where configs/pe_cls_r50.py leaves it; --reuse backbone=FILE names another one.

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; no GPU was measured.
Result: not measured.
"""

_base_ = "../pe_seg_r50.py"

pretrained = None
reuse = dict(backbone="work_dirs/pe_cls_r50/iter_20000.pth")
