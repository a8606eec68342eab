"""First step of the winner-style system: embolism on a slice with its two neighbours.

The winner of the RSNA 2020 competition used SE-ResNeXt-50 and -101 at 576; any
convolutional timm network with levels of strides 4 to 32 can be used here (type="PETimm",
model_name="seresnext50_32x4d").

pe-unified train exam/winner_slices --data-root data/pe

Time: not measured.
Result: unknown.
"""

_base_ = "../pe_cls_r50.py"

input_size = 576
windows = ["pe"]
neighbours = 1
lr = 4e-4
