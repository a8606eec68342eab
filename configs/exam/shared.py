"""Exams on the shared backbone: slices are learned (s1_cls), then exams from its features.

pe-unified steps exam/shared --data-root data/pe

Time: not measured.
Result: not known.
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
