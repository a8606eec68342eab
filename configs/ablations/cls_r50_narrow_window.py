"""Windows: lung, PE and a narrow one around emboli.

tools/train.py configs/ablations/cls_r50_narrow_window.py --data-root data/pe
"""

_base_ = "../pe_cls_r50.py"

windows = ["lung", "pe", "embolus"]
