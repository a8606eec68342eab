"""The comparison on Swin-T at 256 x 256, with the settings of ResNet-50.

tools/train_steps.py configs/results/swin.py --data-root data/results/pe --seeds 0 1 2 --jobs 2

Time: not yet measured in full.
Result: docs/results.md.
"""

_base_ = "./r50.py"

backbone = "swin"
