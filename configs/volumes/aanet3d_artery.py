"""The artery branch of AANet-3D alone, from which its gate starts (volumes/steps).

pe-unified train volumes/aanet3d_artery --data-root data/cadpe --cfg-options structures=STRUCTURES

Time: not measured.
Result: unknown.
"""

_base_ = "aanet3d.py"

max_iters = 890

model = dict(network=dict(embolus=False), lesion_head=None)
volumes = dict(needs=("arteries",))
train_dataloader = dict(dataset=volumes)
val_dataloader = dict(dataset=volumes)
test_dataloader = dict(dataset=volumes)
del volumes
val_evaluator = [dict(type="ArteryMetric", resamples=0)]
test_evaluator = [dict(type="ArteryMetric")]
default_hooks = dict(checkpoint=dict(save_best="artery/dice"))
