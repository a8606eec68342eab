"""Exams on the shared backbone: slices are learned (s1_cls), then exams from its features.

pe-unified steps exam/shared --data-root data/pe

Time: not measured at this size; that of the small form is in docs/exams.md.
Result: not known on a public set; on painted exams, made small: docs/exams.md.
"""

steps = [
    dict(name="s1_cls", config="../pe_cls_r50.py"),
    dict(
        name="features",
        config="shared_features.py",
        extract=True,
        reuse={"encoder.backbone:backbone": "s1_cls"},
    ),
    dict(name="gru", config="shared_gru.py", features="features"),
]
