"""Phase two as published: 40 chunks an exam, BCE over labels and chunks.

Ma et al., Sci Rep 2022 (doi 10.1038/s41598-022-16976-9), without its faults: a TCN that sees both
sides, features of the test pipeline, and nothing that reaches into the padding.

pe-unified train exam/two_phase_published --data-root data/pe --cfg-options features=FOLDER

Time: not measured.
Result: not known.
"""

_base_ = "two_phase_tcn.py"

train_dataloader = dict(dataset=dict(max_steps=40))
val_dataloader = dict(dataset=dict(max_steps=40))
test_dataloader = dict(dataset=dict(max_steps=40))
model = dict(exam_head=dict(losses=[dict(type="ExamBCELoss")]))
