"""The siamese system in its two stages: a classifier of lung chooses the slices that are compared.

pe-unified steps exam/siamese_two_stage --data-root data/pe

Time: not measured.
Result: not known.
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
