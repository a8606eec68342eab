"""Phase two as published: 40 chunks an exam, BCE over labels and chunks.

Ma et al., Sci Rep 2022 (doi 10.1038/s41598-022-16976-9), with its faults corrected: a TCN that sees
both sides, features from the test pipeline, and no influence of the padding.

pe-unified train exam/two_phase_published --data-root data/pe --cfg-options features=FOLDER

Time: not measured.
Result: unknown.
"""

_base_ = "two_phase_tcn.py"

train_dataloader = dict(dataset=dict(max_steps=40))
val_dataloader = dict(dataset=dict(max_steps=40))
test_dataloader = dict(dataset=dict(max_steps=40))
model = dict(exam_head=dict(losses=[dict(type="ExamBCELoss")]))
