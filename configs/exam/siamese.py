"""Siamese network on the 20 slices with the most lung: pairs of slices, exam by attention.

pe-unified train exam/siamese --data-root data/pe

Time: not measured.
Result: unknown.
"""

_base_ = [
    "../_base_/default_runtime.py",
    "../_base_/datasets/pe_exams.py",
    "../_base_/schedules/adamw_cosine.py",
    "../_base_/models/exam_r50.py",
]

input_size = 224
neighbours = 0
windows = ["lung", "pe", "mediastinal"]
batch_size = 4

lung_slices = dict(_delete_=True, type="LungSlices", count=20, neighbours=neighbours)
train_dataloader = dict(dataset=dict(steps=lung_slices))
val_dataloader = dict(dataset=dict(steps=lung_slices))
test_dataloader = dict(dataset=dict(steps=lung_slices))
model = dict(
    encoder=dict(pool="avg+max", projection=128, dropout=0.1),
    pair_head=dict(type="PairHead"),
    step_head=dict(type="StepHead"),
    exam_head=dict(type="ExamHead", pool="attention+max", dropout=0.1),
    steps_read="encoder",
    loss_weights=dict(pair=0.5),
)
