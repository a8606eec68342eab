"""Loss: focal loss instead of cross-entropy, for classification.

pe-unified train ablations/cls_r50_focal --data-root data/pe

Time: as pe_cls_r50, about 25 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: not measured.
"""

_base_ = "../pe_cls_r50.py"

model = dict(cls_head=dict(losses=[dict(type="SliceFocalLoss")]))
