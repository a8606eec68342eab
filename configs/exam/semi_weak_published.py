"""Semi-weak supervision as published: CoAtNet-0, one window in all channels, 184 slices an exam.

Hu et al., npj Digit Med 2025 (doi 10.1038/s41746-025-01594-2), with its faults corrected: one
augmentation per exam, no labels hidden outside training, padding masked.

pe-unified train exam/semi_weak_published --data-root data/pe \
    --cfg-options masked_label_portion=0.75

Time: not measured.
Result: unknown.
"""

_base_ = "semi_weak.py"

windows = ["pe", "pe", "pe"]
neighbours = 0
lr = 2e-4
pretrained = "timm://"
frozen_stages = None

train_dataloader = dict(dataset=dict(max_steps=184, indeterminate="leave_out"))
val_dataloader = dict(dataset=dict(indeterminate="leave_out"))
test_dataloader = dict(dataset=dict(indeterminate="leave_out"))
model = dict(
    encoder=dict(
        _delete_=True,
        type="TimmEncoder",
        model_name="coatnet_0_rw_224",
        img_size=256,
        pretrained=pretrained,
        projection=64,
        dropout=0.3,
    ),
    aggregator=dict(layers=3),
    exam_head=dict(
        pool="last", labels=("positive_exam_for_pe",), losses=[dict(type="ExamBCELoss")]
    ),
    loss_weights=dict(step=0.95, exam=0.05),
)
