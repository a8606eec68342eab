"""The stepwise comparison on Swin-T: the same steps as on ResNet-50.

tools/train_steps.py configs/steps/swin.py --data-root data/pe
"""

_base_ = "./r50.py"

backbone = "swin"
