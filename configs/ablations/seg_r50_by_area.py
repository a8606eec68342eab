"""Sampler: as many positive slices as others, a third each with small, medium and large emboli.

pe-unified train ablations/seg_r50_by_area --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice -0.031 [-0.052, -0.010] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type="SliceSampler",
        positive_fraction=0.5,
        ratio_edges=(0.0005, 0.002),  # of a slice's pixels: 131 and 524 of 512 x 512
    )
)
