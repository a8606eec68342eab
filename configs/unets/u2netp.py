"""Which pixels are embolus? U2-NetP, the small U2-Net (Qin et al. 2020).

pe-unified train unets/u2netp --data-root data/pe

Time: not measured.
Result: Dice 0.67 after 200 small iterations on synthetic studies (docs/unets.md).
"""

_base_ = "u2net.py"

model = dict(seg_head=dict(decoder=dict(small=True)))
