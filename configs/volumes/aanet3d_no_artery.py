"""AANet-3D without arteries, for sets without artery masks: emboli only.

pe-unified train volumes/aanet3d_no_artery --data-root data/cadpe

Time: not measured.
Result: unknown.
"""

_base_ = "aanet3d.py"

model = dict(network=dict(artery=False), artery_head=None)
val_evaluator = [dict(type="LesionMetric", resamples=0)]
test_evaluator = [dict(type="LesionMetric")]
