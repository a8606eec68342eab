"""Loss: symmetric cross-entropy instead of cross-entropy, with Dice.

pe-unified train ablations/seg_r50_symmetric_ce --data-root data/pe

Time: as pe_seg_r50, about 29 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: Dice -0.049 [-0.077, -0.022] on small synthetic slices (docs/imbalance.md).
"""

_base_ = "../pe_seg_r50.py"

model = dict(
    seg_head=dict(
        losses=[
            dict(type="PooledDiceLoss"),
            dict(type="SymmetricCrossEntropyLoss"),
        ]
    )
)
