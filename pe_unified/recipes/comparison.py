"""Scratch against reused: differences on the same patients, and the figures."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_unified.engine.study_test import LESION_TABLES
from pe_unified.evaluation.figures import (
    curve_figure,
    difference_figure,
    draw_exams,
    froc_figure,
    precision_recall_figure,
    roc_figure,
    seed_figure,
    step_figure,
)
from pe_unified.evaluation.froc import LesionTable
from pe_unified.evaluation.intervals import (
    Difference,
    Estimate,
    Statistic,
    estimate,
    mean_statistic,
    paired_difference,
    with_ends,
)
from pe_unified.evaluation.lung_boxes import LungBoxMetric
from pe_unified.evaluation.metrics import LungMetric
from pe_unified.evaluation.tables import Table
from pe_unified.evaluation.task_metrics import PATIENT_METRICS
from pe_unified.recipes.recipe import REUSE_ARMS, Recipe
from pe_unified.tasks import TASKS

#: The type of table that a test writes, by prefix: of a task, of lungs, or of lesions.
TABLES = {
    each.default_prefix: each.table_type for each in (*PATIENT_METRICS, LungMetric, LungBoxMetric)
} | dict.fromkeys(LESION_TABLES, LesionTable)


@dataclass(frozen=True)
class Run:
    """One seed's run of a recipe: its folder and the records of its steps."""

    seed: int
    folder: Path
    records: list[dict[str, Any]]

    def table(self, step: str, task: str) -> Any:
        """The test table of a step, or None if it has no such head."""
        path = self.folder / step / f"{task}.npz"
        return TABLES[task].load(path) if path.is_file() else None

    def threshold(self, step: str, task: str) -> float | None:
        """The operating threshold that validation fixed; None if there is none."""
        stored = json.loads((self.folder / step / "metrics.json").read_text(encoding="utf-8"))
        return stored["thresholds"].get(f"{task}/threshold")

    def statistic(self, step: str, task: str) -> tuple[Table, Statistic]:
        """The test table of a step, and its metrics as a function of patient weights."""
        table = self.table(step, task)
        if table is None:
            raise FileNotFoundError(f"{self.folder / step} holds no {task} results to compare")
        if isinstance(table, LesionTable):
            return table, table.statistic(threshold=self.threshold(step, task))
        return table, table.statistic(self.threshold(step, task))


def compare_arms(
    comparisons: Sequence[tuple[str, str, str]], runs: Sequence[Run]
) -> list[dict[str, Any]]:
    """Reused minus scratch for every comparison of a recipe, paired by patient.

    With several runs each arm is the mean over its seeds, so the interval is one over
    patients for that mean; the values of the single seeds are added. A difference that the test
    data do not determine (no such label, a single patient) is NaN, with the ``reason``.
    """
    found = []
    for metric, scratch, reused in comparisons:
        try:
            found.append(_compare(metric, scratch, reused, runs))
        except (FileNotFoundError, ValueError) as error:
            found.append(_undecided(metric, scratch, reused, runs, str(error)))
    return found


def mean_metrics(step: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Metrics of a step as means over its seeds, each with an interval over patients."""
    metrics: dict[str, Any] = {}
    for task in TABLES:
        if runs[0].table(step, task) is None:
            continue
        found = [run.statistic(step, task) for run in runs]
        statistic = mean_statistic([each for _, each in found])
        metrics |= with_ends(estimate(statistic, found[0][0].units), f"{task}/")
    return metrics


def _undecided(
    metric: str, scratch: str, reused: str, runs: Sequence[Run], reason: str
) -> dict[str, Any]:
    nan = float("nan")
    return {
        **_arms(metric, scratch, reused, runs),
        "difference": nan,
        "ci": [nan, nan],
        "p_value": nan,
        "by_seed": [],
        "reason": reason,
    }


def _compare(metric: str, scratch: str, reused: str, runs: Sequence[Run]) -> dict[str, Any]:
    task, name = metric.split("/")
    arms: list[Statistic] = []
    tables: list[Table] = []
    for step in (scratch, reused):
        found = [run.statistic(step, task) for run in runs]
        tables += [table for table, _ in found]
        arms.append(mean_statistic([statistic for _, statistic in found]))
    if len({table.patients for table in tables}) > 1:
        raise ValueError(
            f"{scratch} and {reused} were tested on different patients; "
            f"the comparison of {metric} needs the same ones"
        )
    difference = paired_difference(*arms, patients=tables[0].units).get(name)
    if difference is None:
        raise ValueError(f"{metric} is not measured in every run of {scratch} and {reused}")
    return {
        **_arms(metric, scratch, reused, runs),
        "difference": difference.value,
        "ci": [difference.low, difference.high],
        "p_value": difference.p_value,
        "by_seed": [_value(run, reused, metric) - _value(run, scratch, metric) for run in runs],
    }


def _arms(metric: str, scratch: str, reused: str, runs: Sequence[Run]) -> dict[str, Any]:
    """What is compared, how long both arms trained, and whether that is equal.

    ``equal`` is ``"total"`` if both have seen as many slices including all steps that they started
    from, ``"step"`` if they have in the step itself, else ``"neither"``. Numbers of slices that
    differ by less than a batch count as equal.
    """
    arms = [_record(runs[0], step) for step in (scratch, reused)]
    batch = max(arm["batch_size"] for arm in arms)
    equal = "neither"
    for name, slices in (
        ("total", [arm["total_slices"] for arm in arms]),
        ("step", [arm["iterations"] * arm["batch_size"] for arm in arms]),
    ):
        if abs(slices[0] - slices[1]) < batch:
            equal = name
            break
    return {
        "metric": metric,
        "scratch": scratch,
        "reused": reused,
        "equal": equal,
        "iterations": [arm["iterations"] for arm in arms],
        "total_iterations": [arm["total_iterations"] for arm in arms],
    }


def _record(run: Run, step: str) -> dict[str, Any]:
    (record,) = [record for record in run.records if record["name"] == step]
    return record


def _value(run: Run, step: str, metric: str) -> float:
    return _number(_record(run, step)["metrics"][metric])


def draw_summary(
    folder: Path,
    records: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
    runs: Sequence[Run],
    note: str,
    arms_are: Sequence[str] = REUSE_ARMS,
) -> None:
    """Draw ROC, FROC, precision-recall, metrics by step, differences and overlays as PNG files."""
    first = runs[0]
    for task, name, draw in (
        ("cls", "roc.png", roc_figure),
        ("det", "precision_recall.png", precision_recall_figure),
    ):
        arms = {
            record["name"]: table
            for record in records
            if (table := first.table(record["name"], task)) is not None
        }
        if arms:
            cuts = {arm: first.threshold(arm, task) for arm in arms}
            draw(arms, folder / name, thresholds=cuts, note=_of_seed(note, runs))
    exams = {
        record["name"]: table
        for record in records
        if (table := first.table(record["name"], "exam")) is not None
    }
    if exams:
        draw_exams(exams, folder, _of_seed(note, runs))
    volumes, studies = (
        {
            record["name"]: table
            for record in records
            if (table := first.table(record["name"], prefix)) is not None
        }
        for prefix in ("lesion", LESION_TABLES[0])
    )
    marks = {**{name: table.marks() for name, table in volumes.items()}, **studies}
    if marks:
        froc_figure(marks, folder / "froc.png", note=_of_seed(note, runs))
    for task in TASKS.values():
        name = f"{task.figure_name}_by_step.png"
        metrics = [task.key(metric) for metric in task.figure]
        if any(metric in record["metrics"] for record in records for metric in metrics):
            step_figure(records, folder / name, metrics=metrics, note=note)
    comparisons = [each for each in comparisons if not math.isnan(each["difference"])]
    if comparisons:
        by_label = {
            f"{each['metric']}: {each['reused']} - {each['scratch']}": each for each in comparisons
        }
        difference_figure(
            {
                label: Difference(each["difference"], *each["ci"], each["p_value"])
                for label, each in by_label.items()
            },
            folder / "difference.png",
            note=note,
            title=difference_title(arms_are),
            seeds={label: each["by_seed"] for label, each in by_label.items()}
            if len(runs) > 1
            else None,
            equal={label: each["equal"] for label, each in by_label.items()}
            if arms_are == REUSE_ARMS
            else None,
        )
    if comparisons and len(runs) > 1:
        _draw_seeds(folder / "seeds.png", records, comparisons, note)
    overlays = first.folder / records[-1]["name"] / "overlays.png"
    if overlays.is_file():
        shutil.copyfile(overlays, folder / "overlays.png")


def difference_title(arms_are: Sequence[str]) -> str:
    """Which arm is subtracted from which."""
    return f"{arms_are[1]} minus {arms_are[0]}".capitalize()


def draw_curves(
    folder: Path, recipe: Recipe, records: Sequence[Mapping[str, Any]], note: str
) -> None:
    """Draw metrics against the settings in which steps differ, as PNG files."""
    metrics = {record["name"]: record["metrics"] for record in records}
    for curve in recipe.curves:
        points: dict[str, list[tuple[float, Estimate]]] = {key: [] for key in curve.metrics}
        for step, place in sorted(curve.places(recipe.steps).items(), key=lambda each: each[1]):
            for key in curve.metrics:
                value, ends = metrics[step].get(key), metrics[step].get(f"{key}_ci")
                if value is not None:
                    low, high = (_number(end) for end in ends or (None, None))
                    points[key].append((place, Estimate(value, low, high)))
        curve_figure(points, folder / f"{curve.setting}.png", curve.label or curve.setting, note)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _of_seed(note: str, runs: Sequence[Run]) -> str:
    return f"Seed {runs[0].seed} of {len(runs)}. {note}" if len(runs) > 1 else note


def _draw_seeds(
    path: Path,
    records: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
    note: str,
) -> None:
    by_name = {record["name"]: record for record in records}
    values: dict[str, dict[str, list[float]]] = {}
    for each in comparisons:
        arms = values.setdefault(each["metric"], {})
        for step in (each["scratch"], each["reused"]):
            seeds = by_name[step]["seeds"][each["metric"]]
            arms[step] = [float("nan") if value is None else value for value in seeds]
    reused = {each["reused"] for each in comparisons}
    seed_figure(values, path, reused=sorted(reused), note=note)
