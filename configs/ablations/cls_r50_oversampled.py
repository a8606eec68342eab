"""Sampler: positive slices three times as often.

pe-unified train ablations/cls_r50_oversampled --data-root data/pe

Time: as pe_cls_r50, about 25 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: not measured.
"""

_base_ = "../pe_cls_r50.py"

train_dataloader = dict(sampler=dict(_delete_=True, type="PEOversamplingSampler", factor=3.0))
