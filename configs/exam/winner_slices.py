"""First step of the winner-style system: embolism on a slice, seen with its two neighbours.

The RSNA 2020 competition's first place took SE-ResNeXt-50 and -101 at 576; any network of timm goes
here (type="PETimm", model_name="seresnext50_32x4d").

pe-unified train exam/winner_slices --data-root data/pe

Time: not measured.
Result: not known.
"""

_base_ = "../pe_cls_r50.py"

input_size = 576
windows = ["pe"]
neighbours = 1
lr = 4e-4
