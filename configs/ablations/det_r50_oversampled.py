"""Positive slices twelve times as often as others: for short runs on boxes of a few pixels.

pe-unified train ablations/det_r50_oversampled --data-root data/pe

Time: about 23 h on 2 CPU cores, as pe_det_r50; not measured.
Result: not measured alone; a step of results/unets.
"""

_base_ = "../pe_det_r50.py"

train_dataloader = dict(sampler=dict(_delete_=True, type="PEOversamplingSampler", factor=12.0))
