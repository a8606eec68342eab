"""Exams on the shared backbone: it learns slices (s1_cls), then exams use its features.

pe-unified steps exam/shared --data-root data/pe

Time: not measured.
Result: unknown.
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
