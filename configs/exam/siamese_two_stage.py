"""The siamese system in two stages: a lung classifier selects the slices to compare.

pe-unified steps exam/siamese_two_stage --data-root data/pe

Time: not measured.
Result: unknown.
"""

steps = [
    dict(name="lungs", config="lung_slices.py"),
    dict(
        name="scores",
        config="lung_scores.py",
        extract=True,
        reuse={"encoder.backbone:backbone": "lungs", "encoder.cls_head:cls_head": "lungs"},
    ),
    dict(name="measured", config="siamese.py"),
    dict(name="scored", config="siamese_scored.py", lung_scores="scores"),
]
comparisons = [("exam/auc", "measured", "scored")]
arms = ("measured lung", "classifier of lung")
