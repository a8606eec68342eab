"""The stepwise comparison on Swin-T: the same steps as on ResNet-50.

pe-unified steps steps/swin --data-root data/pe

Time: about 760 h on 2 CPU cores with bfloat16, the sum of its configs, 400 h of it for the
controls; not measured on a GPU.
Result: not measured; a small version of the same steps: docs/results.md.
"""

_base_ = "./r50.py"

backbone = "swin"
