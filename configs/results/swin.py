"""The measured comparison of docs/results.md on Swin-T, with the settings of ResNet-50.

tools/train_steps.py configs/results/swin.py --data-root data/results/pe --seeds 0 1 2 --jobs 2
"""

_base_ = "./r50.py"

backbone = "swin"
