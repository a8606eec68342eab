"""Augmentation: emboli of other slices are pasted into vessels of every second slice.

pe-unified train ablations/seg_r50_pasting --data-root data/pe

With masks of the arteries, emboli are pasted into these only: --cfg-options structures=STRUCTURES.

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice -0.006 [-0.035, +0.024] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

paste_emboli = 0.5
