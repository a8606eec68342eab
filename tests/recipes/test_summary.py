"""What a recipe prints at its end can be read."""

import numpy as np
from rich.console import Console

from pe_unified.evaluation.segmentation import BINS, SegTable
from pe_unified.recipes.comparison import Run
from pe_unified.recipes.summary import mean_records, summary_table


def test_means_over_seeds_are_of_what_the_steps_measured(tmp_path):
    """A table of arteries also gives Dice of slices, which means nothing of a volume."""
    runs = []
    for seed in (0, 1):
        folder = tmp_path / f"seed{seed}"
        (folder / "artery").mkdir(parents=True)
        counts = np.random.default_rng(seed).integers(1, 9, (4, 2, BINS)).astype(np.uint32)
        SegTable.build(list("aabb"), list(counts)).save(folder / "artery/artery.npz")
        (folder / "artery/metrics.json").write_text('{"thresholds": {"artery/threshold": 0.5}}')
        metrics = {"artery/dice": 0.5, "artery/dice_ci": [0.4, 0.6], "artery/threshold": 0.5}
        record = dict(name="artery", checkpoint="artery/iter_1.pth", seconds=1.0, metrics=metrics)
        runs.append(Run(seed, folder, [record]))
    (record,) = mean_records(runs)
    assert record["metrics"].keys() == {"artery/dice", "artery/dice_ci"}
    assert record["seeds"] == {"artery/dice": [0.5, 0.5]}


def printed(metrics, width=100):
    record = dict(name="s1_cls", metrics=metrics, reused=[], iterations=5)
    summary = dict(recipe="r", steps=[record], warnings=[], arms=["a", "b"])
    console = Console(width=width)
    with console.capture() as capture:
        console.print(summary_table(summary))
    return " ".join(capture.get().split())


def test_few_columns_are_shown_with_their_intervals():
    text = printed({"cls/auc": 0.9, "cls/auc_ci": [0.8, 0.95], "seg/dice": 0.5, "seg/iou": 0.3})
    assert "0.900 [0.80, 0.95]" in text and "IoU" in text and "summary.md" not in text


def test_of_many_columns_each_kind_of_answer_has_its_first():
    many = ["seg/dice", "seg/iou", "findings/f1", "findings/sensitivity_at_1", "cls/auc"]
    many += ["findings/sensitivity_at_2", "findings/mean_sensitivity"]
    metrics = {key: number / 10 for number, key in enumerate(many)}
    text = printed(metrics)
    assert "Dice" in text and "lesion F1" in text and "slice AUC" in text
    assert "IoU" not in text and "FP" not in text and "more columns in summary.md" in text


def test_of_many_kinds_of_answers_no_number_is_cut_in_a_narrow_terminal():
    many = ["seg/dice", "findings/f1", "cls/auc", "det/mAP_50", "lesion/dice", "artery/dice"]
    many += ["exam/auc"]
    metrics = {key: 0.1 + number / 10 for number, key in enumerate(many)}
    text = printed({**metrics, **{f"{key}_ci": [0.0, 1.0] for key in many}}, width=80)
    assert all(f"{value:.3f}" in text for value in metrics.values()) and "[" not in text
    assert "intervals in summary.md" in text
