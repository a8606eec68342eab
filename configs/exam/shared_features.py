"""Features of every slice from the backbone of a slice model, as input of exam models.

The backbone comes from s1_cls: shared.py, or

pe-unified extract exam/shared_features --data-root data/pe \
    --reuse encoder.backbone:backbone=work_dirs/pe_cls_r50/iter_20000.pth

Time: not measured.
Result: unknown.
"""

_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/pe_exams.py",
    "../_base_/schedules/adamw_cosine.py",
    "../_base_/models/exam_r50.py",
]

input_size = 512
windows = ["lung", "pe", "mediastinal"]
neighbours = 0
pretrained = None

model = dict(step_head=dict(type="StepHead"))
val_evaluator = [dict(type="StepMetric", resamples=0)]
test_evaluator = [dict(type="StepMetric")]
