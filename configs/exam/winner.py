"""The winner-style system: slices with neighbours, their features, exams; heart separately.

pe-unified steps exam/winner --data-root data/pe

Time: not measured.
Result: unknown.
"""

steps = [
    dict(name="slices", config="winner_slices.py"),
    dict(
        name="features",
        config="winner_features.py",
        extract=True,
        reuse={"encoder.backbone:backbone": "slices"},
    ),
    dict(name="exams", config="winner_gru.py", features="features"),
    dict(
        name="heart_features",
        config="winner_heart_features.py",
        extract=True,
        reuse={"encoder.backbone:backbone": "slices"},
    ),
    dict(name="heart", config="winner_heart.py", features="heart_features"),
]
