"""Learning rates that decrease with depth, by a factor of 0.8 per layer.

pe-unified train ablations/cls_swin_layer_decay --data-root data/pe

Time: as pe_cls_swin, about 34 h on 2 CPU cores with bfloat16; not measured on a GPU.
Result: not measured.
"""

_base_ = "../pe_cls_swin.py"

optim_wrapper = dict(constructor="LayerDecayConstructor", paramwise_cfg=dict(layer_decay=0.8))
