"""The siamese network as published: three branches, one per window, and the exam's label on slices.

Its code shares no weights and compares no pairs; the label of every slice is that of its exam, and
an exam's score is the mean of its slices'.

pe-unified train exam/siamese_published --data-root data/pe

Time: not measured.
Result: not known.
"""

_base_ = "siamese.py"

pretrained = None
frozen_stages = None

model = dict(
    encoder=dict(_delete_=True, type="WindowBranches"),
    pair_head=None,
    labels_from="exam",
    exam_head=dict(_delete_=True, type="ExamHead", pool="mean", labels=("positive_exam_for_pe",)),
)
