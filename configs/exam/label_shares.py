"""Exam and slice AUC by the share of slice labels that are hidden in training.

pe-unified steps exam/label_shares --data-root data/pe

Labels of single slices are hidden evenly in all exams; exam_shares.py hides those of whole exams.
The figure is masked_label_portion.png.

Time: six times that of semi_weak.py.
Result: unknown.
"""

settings = dict(masked_label_mode="even")
steps = [
    dict(
        name=f"without_{round(100 * portion):03d}",
        config="semi_weak.py",
        settings=dict(masked_label_portion=portion),
    )
    for portion in (0.0, 0.5, 0.75, 0.9, 0.97, 1.0)
]
curves = [
    dict(
        setting="masked_label_portion",
        metrics=("exam/auc", "cls/auc"),
        label="Share of slice labels hidden in training",
    )
]
