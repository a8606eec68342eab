"""Which pixels are embolus? U2-NetP, the small U2-Net (Qin et al. 2020).

pe-unified train unets/u2netp --data-root data/pe

Time: not measured.
Result: not measured.
"""

_base_ = "u2net.py"

model = dict(seg_head=dict(decoder=dict(small=True)))
