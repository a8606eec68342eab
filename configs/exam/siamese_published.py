"""The siamese network as published: three branches, one per window, exam labels on slices.

The published code shares no weights and compares no pairs; every slice has the label of its exam,
and the score of an exam is the mean over its slices.

pe-unified train exam/siamese_published --data-root data/pe

Time: not measured.
Result: unknown.
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
