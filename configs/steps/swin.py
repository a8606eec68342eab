"""The stepwise comparison on Swin-T: the same steps as on ResNet-50.

pe-unified steps steps/swin --data-root data/pe

Time: about 760 h on 2 CPU cores with bfloat16, the sum of its configs, of which 400 h for the
controls; no GPU was measured.
Result: not measured; docs/results.md has the same steps, made small.
"""

_base_ = "./r50.py"

backbone = "swin"
