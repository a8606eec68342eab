"""Results of a recipe: ``summary.json``, ``summary.md`` and the figures."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from pe_unified.cards.markdown import table
from pe_unified.engine.evaluate import Evaluation
from pe_unified.evaluation.figures.style import footer
from pe_unified.evaluation.in_words import (
    difference_in_words,
    interval_in_words,
    p_in_words,
    with_interval,
)
from pe_unified.evaluation.intervals import warnings_of
from pe_unified.files import write_text
from pe_unified.json_files import write_json
from pe_unified.recipes.comparison import (
    TABLES,
    Run,
    compare_arms,
    difference_title,
    draw_curves,
    draw_summary,
    mean_metrics,
)
from pe_unified.recipes.recipe import REUSE_ARMS, Recipe
from pe_unified.tasks import COLUMNS

#: Largest number of columns with intervals in a terminal.
_IN_TERMINAL = 5
_IN_ALL = (
    " In all: iterations of the step and of all steps that it takes weights from, in batches of "
    "its own size."
)
_BUDGETS = (
    "Bold: equal in both arms. At equal iterations of the step, the reused arm has trained more in "
    "all; at equal iterations in all, it has not."
)


def environment() -> dict[str, Any]:
    """The machine and the versions that a result depends on."""
    packages = ("pe_unified", "torch", "onedl-mmengine", "onedl-mmdetection", "numpy")
    return {
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def processor() -> str:
    """The name of the machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write_summary(
    recipe: Recipe, work_dir: Path, runs: Sequence[Run], note: str = ""
) -> dict[str, Any]:
    """Write the summary of every run and, if there are several, of all together.

    Returns:
        The content of ``summary.json`` in the work dir; with several seeds, every metric of a
        step is the mean over them and ``seeds`` holds the values of the single runs.
    """
    for run in runs if len(runs) > 1 else ():
        _write_one(recipe, run.folder, run.records, [run], note)
    records = runs[0].records if len(runs) == 1 else mean_records(runs)
    return _write_one(recipe, work_dir, records, runs, note)


def _write_one(
    recipe: Recipe,
    folder: Path,
    records: list[dict[str, Any]],
    runs: Sequence[Run],
    note: str,
) -> dict[str, Any]:
    comparisons = compare_arms(recipe.comparisons, runs)
    warnings = _warnings(records, runs[0])
    summary = {
        "recipe": recipe.name,
        "arms": list(recipe.arms),
        "environment": environment(),
        "note": footer(note),
        "seeds": [run.seed for run in runs],
        "steps": records,
        "comparisons": comparisons,
        "warnings": warnings,
    }
    write_json(folder / "summary.json", summary)
    write_text(folder / "summary.md", _markdown(summary, len(runs), note))
    draw_summary(folder, records, comparisons, runs, note, recipe.arms)
    draw_curves(folder, recipe, records, note)
    return summary


def _warnings(records: Sequence[Mapping[str, Any]], run: Run) -> list[str]:
    """Warnings, once per task, since all steps are tested on the same patients."""
    tables = {}
    for task in TABLES:
        found = (run.table(record["name"], task) for record in records)
        tables[task] = next((table for table in found if table is not None), None)
    return warnings_of({task: table for task, table in tables.items() if table is not None})


def mean_records(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Records of several seeds as one.

    Every metric is the mean over the seeds, with an interval over patients for that mean;
    ``seeds`` holds the single values, ``checkpoints`` the files; ``checkpoint`` is the
    first seed's, ``seconds`` the sum.
    """
    merged = []
    for records in zip(*(run.records for run in runs)):
        own = set.intersection(*(set(record["metrics"]) for record in records))
        found = mean_metrics(records[0]["name"], runs)  # also those that the task does not name
        metrics = {key: value for key, value in found.items() if key.removesuffix("_ci") in own}
        keys = [key for key in metrics if not key.endswith("_ci")]
        values = {key: [record["metrics"][key] for record in records] for key in keys}
        merged.append(
            {
                **records[0],
                "checkpoint": f"{runs[0].folder.name}/{records[0]['checkpoint']}",
                "checkpoints": [
                    f"{run.folder.name}/{record['checkpoint']}"
                    for run, record in zip(runs, records)
                ],
                "seconds": round(sum(record["seconds"] for record in records), 1),
                "metrics": metrics,
                "seeds": values,
            }
        )
    return merged


def _markdown(summary: Mapping[str, Any], seeds: int, note: str) -> str:
    records, comparisons = summary["steps"], summary["comparisons"]
    of_seeds = f"; means over {seeds} seeds" if seeds > 1 else ""
    columns = _columns(records)
    counts, of_reuse = _counts(summary), _is_of_reuse(summary)
    header = ["step", "reused", *columns.values(), "parameters", *counts.values(), "seconds"]
    lines = [
        f"# Recipe {summary['recipe']}",
        "",
        footer(note),
        "",
        f"Test patients only; [95 % interval over patients]{of_seeds}."
        + (_IN_ALL if of_reuse else ""),
        "",
        *(line for each in summary["warnings"] for line in (f"**Note. {each}.**", "")),
    ]
    rows = []
    for record in records:
        cells = [record["name"], _reused(record)]
        cells += [_with_interval(record["metrics"], key) for key in columns]
        size = record.get("parameters")
        cells += ["" if size is None else f"{size / 1e6:.2f} M"]
        rows.append([*cells, *(record[key] for key in counts), f"{record['seconds']:.0f}"])
    lines += table(header, rows)
    if comparisons:
        over = "; interval and p are over these, not over seeds" if seeds > 1 else ""
        header = ["metric", *summary["arms"], *(counts.values() if of_reuse else ())]
        header += ["difference", "p", *(["each seed"] if seeds > 1 else [])]
        lines += ["", f"{difference_title(summary['arms'])}, on the same test patients{over}."]
        lines += [_BUDGETS, ""] if of_reuse else [""]
        lines += table(header, [_compared(each, of_reuse, seeds) for each in comparisons])
    return "\n".join([*lines, ""])


def _compared(each: Mapping[str, Any], of_reuse: bool, seeds: int) -> list[str]:
    """A row of the comparisons."""
    cells = [each["metric"], each["scratch"], each["reused"]]
    if of_reuse:
        cells += [_pair(each, "iterations", "step"), _pair(each, "total_iterations", "total")]
    cells += _difference(each)
    return cells + ([" / ".join(map(difference_in_words, each["by_seed"]))] if seeds > 1 else [])


def _columns(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The columns that at least one step fills, by the key of their metric."""
    filled = {key for record in records for key in record["metrics"]}
    return {key: title for key, title in COLUMNS.items() if key in filled}


def _counts(summary: Mapping[str, Any]) -> dict[str, str]:
    """Columns with the amount of training of a step, by their key.

    The total is added if reuse is compared with training from scratch. Elsewhere batches may be of
    slices, of chunks or of exams, which do not add up.
    """
    counts = {"iterations": "iterations"}
    return {**counts, "total_iterations": "in all"} if _is_of_reuse(summary) else counts


def _is_of_reuse(summary: Mapping[str, Any]) -> bool:
    """Whether it compares reuse with training from scratch."""
    return tuple(summary["arms"]) == REUSE_ARMS


def _pair(comparison: Mapping[str, Any], key: str, equal: str) -> str:
    """Iterations of the arm from scratch and of the reused one."""
    text = " / ".join(str(count) for count in comparison[key])
    return f"**{text}**" if comparison["equal"] == equal else text


def _difference(comparison: Mapping[str, Any]) -> tuple[str, str]:
    """Two cells of a comparison: difference with interval, and p."""
    value, (low, high) = comparison["difference"], comparison["ci"]
    if value != value:
        return f"undefined: {comparison.get('reason', 'on these patients')}", ""
    return difference_in_words(value, low, high), p_in_words(comparison["p_value"])


def headline(metrics: Mapping[str, Any]) -> str:
    """The table's metrics in a few words, for the console."""
    values = [
        f"{name} {metrics[key]:.3f}"
        for key, name in COLUMNS.items()
        if metrics.get(key) is not None and metrics[key] == metrics[key]
    ]
    return ", ".join(values) or "no metric"


def summary_table(summary: Mapping[str, Any]) -> RichTable:
    """The summary as a table for the terminal, with the arms that reuse weights in bold.

    If it would be too wide to read, only the first column of each kind of answer is shown, and of
    many kinds no intervals and one count.
    """
    told = ["bold: starts from the weights of earlier steps", *summary["warnings"]]
    columns, counts, cell = _columns(summary["steps"]), _counts(summary), _with_interval
    if len(columns) > _IN_TERMINAL:
        firsts = {key.split("/")[0].removesuffix("_plain"): key for key in reversed(columns)}
        columns = {key: name for key, name in columns.items() if key in firsts.values()}
        told.append("more columns in summary.md")
    if len(columns) > _IN_TERMINAL:
        counts, cell = {"iterations": "iterations"}, _alone
        told.append("intervals in summary.md")
    title = f"{summary['recipe']}: test patients"
    shown = RichTable(title=title, caption="\n".join(told), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("step", no_wrap=True)
    for name in columns.values():
        shown.add_column(name, justify="right", overflow="fold")
    shown.add_column(", ".join(counts.values()), justify="right", min_width=11)
    for record in summary["steps"]:
        shown.add_row(
            record["name"],
            *(cell(record["metrics"], key) for key in columns),
            ", ".join(str(record[key]) for key in counts),
            style="bold" if record["reused"] else None,
        )
    return shown


def metrics_table(evaluation: Evaluation) -> RichTable:
    """One evaluation as a table for the terminal."""
    metrics, thresholds = evaluation.metrics, evaluation.thresholds
    told = "\n".join(filter(None, (evaluation.notice, *warnings_of(evaluation.tables))))
    shown = RichTable(title="test split, 95 % intervals over patients", caption=told)
    shown.add_column("metric")
    shown.add_column("value", justify="right")
    for key in metrics:
        if not key.endswith("_ci"):
            shown.add_row(key, with_interval(metrics, key))
    for key, value in thresholds.items():
        shown.add_row(f"{key} (fixed before the test)", f"{value:.3f}")
    return shown


def _reused(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{each['module']} < {each['from']}" for each in record["reused"])


def _alone(metrics: Mapping[str, Any], key: str) -> str:
    return interval_in_words(metrics[key], None, None) if key in metrics else ""


def _with_interval(metrics: Mapping[str, Any], key: str) -> str:
    return with_interval(metrics, key) if key in metrics else ""
