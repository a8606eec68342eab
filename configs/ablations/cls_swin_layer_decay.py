"""Learning rates falling with depth, 0.8 per layer.

tools/train.py configs/ablations/cls_swin_layer_decay.py --data-root data/pe
"""

_base_ = "../pe_cls_swin.py"

optim_wrapper = dict(constructor="LayerDecayConstructor", paramwise_cfg=dict(layer_decay=0.8))
