"""The tasks, in one place: their names, labels and metrics."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One answer of a model.

    Attributes:
        name: prefix of its losses and metrics, ``cls_loss_ce`` and ``cls/auc``.
        answer: the answer in words.
        field: field of a sample that holds the label.
        labels: key of the label in a slice's record, also used in messages.
        metric: class of the metric.
        metrics: titles on an axis, by key of what the metric returns.
        main: the key by which the task is judged where one number has to do.
        columns: titles of the columns for those keys that tables show.
        figure: those keys that are plotted by step.
        threshold: name of the operating threshold in a report.
        of_slices: whether the answer is about a slice, or about a whole exam or volume.
    """

    name: str
    answer: str
    field: str
    labels: str
    metric: str
    metrics: Mapping[str, str]
    main: str
    columns: Mapping[str, str]
    figure: tuple[str, ...]
    threshold: str
    of_slices: bool = True

    @property
    def head(self) -> str:
        """Name of its module in the model, and its key in a config."""
        return f"{self.name}_head"

    @property
    def figure_name(self) -> str:
        """First part of the name of its figure by step: ``map``, or ``exam_auc`` for exams."""
        measured = self.figure[0].partition("_")[0].lower()
        return measured if self.of_slices else f"{self.name}_{measured}"

    def key(self, metric: str) -> str:
        """``cls/auc`` for ``auc``."""
        return f"{self.name}/{metric}"


#: By name, in the order in which tables show them.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="cls",
            answer="whether a slice shows embolism",
            field="gt_label",
            labels="label",
            metric="SliceMetric",
            metrics={
                "accuracy": "Slice accuracy",
                "auc": "Slice AUC",
                "f1": "Slice F1",
                "sensitivity": "Slice sensitivity",
                "specificity": "Slice specificity",
            },
            main="auc",
            columns={"auc": "slice AUC"},
            figure=("auc",),
            threshold="slice",
        ),
        Task(
            name="seg",
            answer="which pixels are embolus",
            field="gt_sem_seg",
            labels="masks",
            metric="SegMetric",
            metrics={
                "dice": "Dice, pooled",
                "iou": "IoU, pooled",
                "dice_positive": "Dice, positive slices",
                "iou_positive": "IoU, positive slices",
                "slice_auc": "Slice AUC, highest pixel",
            },
            main="dice",
            columns={"dice": "Dice", "iou": "IoU"},
            figure=("iou", "dice"),
            threshold="pixel",
        ),
        Task(
            name="det",
            answer="boxes around emboli",
            field="gt_instances",
            labels="boxes",
            metric="DetMetric",
            metrics={
                "mAP": "mAP",
                "mAP_50": "mAP at IoU 0.5",
                "precision": "Box precision",
                "recall": "Box recall",
                "mean_iou": "Mean box IoU",
            },
            main="mAP_50",
            columns={"mAP_50": "mAP_50"},
            figure=("mAP_50", "mAP"),
            threshold="box",
        ),
        Task(
            name="exam",
            answer="labels of the whole exam",
            field="gt_exam",
            labels="exam labels",
            metric="ExamMetric",
            metrics={
                "auc": "Exam AUC",
                "weighted_bce": "RSNA loss",
                "sensitivity": "Exam sensitivity",
                "specificity": "Exam specificity",
                "ece": "Exam calibration error",
                "brier": "Exam Brier score",
                "auc_negative_exam_for_pe": "AUC, negative exam",
                "auc_indeterminate": "AUC, indeterminate",
                "auc_chronic_pe": "AUC, chronic",
                "auc_acute_and_chronic_pe": "AUC, acute and chronic",
                "auc_central_pe": "AUC, central",
                "auc_leftsided_pe": "AUC, left-sided",
                "auc_rightsided_pe": "AUC, right-sided",
                "auc_rv_lv_ratio_gte_1": "AUC, RV/LV at least 1",
                "auc_rv_lv_ratio_lt_1": "AUC, RV/LV below 1",
            },
            main="auc",
            columns={
                "auc": "exam AUC",
                "auc_central_pe": "central AUC",
                "auc_chronic_pe": "chronic AUC",
                "auc_rv_lv_ratio_gte_1": "RV/LV AUC",
                "weighted_bce": "RSNA loss",
            },
            figure=("auc",),
            threshold="exam",
            of_slices=False,
        ),
        Task(
            name="lesion",
            answer="emboli in volumes",
            field="gt_lesions",
            labels="emboli",
            metric="LesionMetric",
            metrics={
                "sensitivity_at_1": "Emboli found at 1 false positive per scan",
                "sensitivity_at_2": "Emboli found at 2 false positives per scan",
                "sensitivity_at_4": "Emboli found at 4 false positives per scan",
                "mean_sensitivity": "Emboli found, mean",
                **{
                    f"{name}_{epsilon}mm": f"{title}, within {epsilon} mm"
                    for epsilon in (2, 5)
                    for name, title in (
                        ("sensitivity_at_1", "Emboli found at 1"),
                        ("sensitivity_at_2", "Emboli found at 2"),
                        ("sensitivity_at_4", "Emboli found at 4"),
                        ("mean_sensitivity", "Emboli found, mean"),
                    )
                },
                "dice": "Dice of volumes, pooled",
            },
            main="mean_sensitivity",
            columns={
                "sensitivity_at_1": "found at 1 FP",
                "sensitivity_at_2": "found at 2 FP",
                "sensitivity_at_4": "found at 4 FP",
                "dice": "volume Dice",
            },
            figure=("sensitivity_at_2", "dice"),
            threshold="voxel",
            of_slices=False,
        ),
        Task(
            name="artery",
            answer="arteries in volumes",
            field="gt_artery",
            labels="arteries",
            metric="ArteryMetric",
            metrics={"dice": "Dice of arteries, pooled", "iou": "IoU of arteries, pooled"},
            main="dice",
            columns={"dice": "artery Dice"},
            figure=("dice",),
            threshold="artery",
            of_slices=False,
        ),
    )
}
#: Tasks that a slice model may have.
SLICE_TASKS = tuple(name for name, task in TASKS.items() if task.of_slices)
#: Tasks whose answers are combined into lesions.
LESION_TASKS = ("seg", "det")

#: The full key of the main metric, by task.
MAIN_METRICS = {name: task.key(task.main) for name, task in TASKS.items()}

#: Title on an axis, by the full key of a metric.
METRIC_NAMES = {
    task.key(metric): title for task in TASKS.values() for metric, title in task.metrics.items()
}
#: Title of a table's column, by the full key of a metric.
COLUMNS = {
    task.key(metric): title for task in TASKS.values() for metric, title in task.columns.items()
}
#: A separate classifier with the same head decides whether a slice shows lung; the lung detector
#: finds where it is; lesions are combined from the masks and boxes of a study.
COLUMNS |= {
    "lung/auc": "lung AUC",
    "lung_box/mAP_50": "lung mAP_50",
    "lung_box/embolus_share": "emboli in crop",
    "findings/f1": "lesion F1",
    "findings/sensitivity_at_1": "lesions at 1 FP",
    "findings/sensitivity_at_2": "lesions at 2 FP",
    "findings/mean_sensitivity": "lesion FROC",
    "findings_plain/mean_sensitivity": "lesion FROC, unfused",
}
METRIC_NAMES |= {
    **{
        f"lung/{key}": title.replace("Slice", "Lung") for key, title in TASKS["cls"].metrics.items()
    },
    "lung_box/mAP_50": "mAP of lung boxes at IoU 0.5",
    "lung_box/embolus_share": "Share of emboli in the crop",
    "findings/f1": "F1 of lesions",
    "findings/sensitivity_at_1": "Lesions found at 1 false positive per scan",
    "findings/sensitivity_at_2": "Lesions found at 2 false positives per scan",
    "findings/mean_sensitivity": "Mean sensitivity over lesion FROC",
    "findings_plain/mean_sensitivity": "Mean sensitivity over lesion FROC, unfused",
}
#: Endings of metrics for which less is better.
_LESS_IS_BETTER = ("weighted_bce", "ece", "brier")


def less_is_better(metric: str) -> bool:
    """Whether the best value of a metric, given by its full key, is the lowest."""
    return metric.endswith(_LESS_IS_BETTER)


def look_for_lesions(tasks: Iterable[str]) -> bool:
    """Whether a model with these tasks outlines lesions or predicts boxes."""
    return not set(LESION_TASKS).isdisjoint(tasks)
