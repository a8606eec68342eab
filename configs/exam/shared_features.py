"""Features of every slice by the backbone of a slice model, for exam models that read them.

The backbone comes from s1_cls: shared.py, or

pe-unified extract exam/shared_features --data-root data/pe \\
    --reuse encoder.backbone:backbone=work_dirs/pe_cls_r50/iter_20000.pth

Time: not measured.
Result: not known.
"""

_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/pe_exams.py",
    "../_base_/schedules/adamw_cosine.py",
]

input_size = 512
windows = ["lung", "pe", "mediastinal"]
neighbours = 0
pretrained = None

model = dict(
    type="PEExam",
    data_preprocessor=dict(type="PEExamPreprocessor"),
    encoder=dict(
        type="BackboneEncoder",
        backbone=dict(type="PEResNet", depth=50, pretrained=pretrained),
    ),
    step_head=dict(type="StepHead"),
)
val_evaluator = [dict(type="StepMetric", resamples=0)]
test_evaluator = [dict(type="StepMetric")]
