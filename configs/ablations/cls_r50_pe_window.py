"""Windows: the PE window only, three times, so that the first layer is the same as in pe_cls_r50.

pe-unified train ablations/cls_r50_pe_window --data-root data/pe

Time: as pe_cls_r50, about 25 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: not measured.
"""

_base_ = "../pe_cls_r50.py"

windows = ["pe", "pe", "pe"]
