"""Classification that also looks cell by cell, where the masks teach it what to look for.

pe-unified train ablations/cls_seg_r50_evidence --data-root data/pe

Time: as pe_cls_seg_r50, about 23 h on 2 CPU cores with bfloat16; no GPU was measured.
Result: not measured.
"""

_base_ = "../pe_cls_seg_r50.py"

model = dict(cls_head=dict(evidence_channels=64, mask_weight=1.0))
