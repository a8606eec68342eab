"""Semi-weak supervision: few slice labels, all exam labels; attention and LSTM over slices.

pe-unified train exam/semi_weak --data-root data/pe --cfg-options masked_label_portion=0.75

The encoder is the shared ResNet-50; masked_label_mode=exams hides all slices of some exams. The
published form is semi_weak_published.py.

Time: not measured.
Result: unknown.
"""

_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/pe_exams.py",
    "../_base_/schedules/adamw_cosine.py",
    "../_base_/models/exam_r50.py",
]

input_size = 256
windows = ["pe"]
neighbours = 1
batch_size = 2
accumulate = 4

train_dataloader = dict(dataset=dict(max_steps=96))
model = dict(
    encoder=dict(pool="avg+max", projection=64, dropout=0.3),
    aggregator=dict(type="AttentionLSTMAggregator", heads=8, width=64, layers=1),
    steps_read="encoder",
    step_head=dict(type="StepHead"),
    exam_head=dict(
        type="ExamHead",
        pool="attention+max",
        dropout=0.1,
        losses=[dict(type="RSNAExamLoss", positive_weight=0.25)],
    ),
    loss_weights=dict(step=0.5, exam=0.5),
)
