"""What a recipe found: ``summary.json``, ``summary.md`` and the figures."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table as RichTable

from pe_unified.engine.evaluate import write_json

if TYPE_CHECKING:
    from pe_unified.engine.steps import Recipe

DISCLAIMER = "Research software, not a medical device."

#: What the table shows, in order.
COLUMNS = (
    ("cls/auc", "slice AUC"),
    ("seg/dice", "Dice"),
    ("seg/iou", "IoU"),
    ("det/mAP_50", "mAP_50"),
)


@dataclass(frozen=True)
class Run:
    """One seed's run of a recipe: its folder and the records of its steps."""

    seed: int
    folder: Path
    records: list[dict[str, Any]]


def environment() -> dict[str, Any]:
    """The machine and the versions that a result depends on."""
    packages = ("pe_unified", "torch", "onedl-mmengine", "onedl-mmdetection", "numpy")
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write_summary(
    recipe: "Recipe", work_dir: Path, runs: Sequence[Run], note: str = ""
) -> dict[str, Any]:
    """Write the summary of every run and of all together.

    Returns:
        What ``summary.json`` of the work dir holds.
    """
    summaries = []
    for run in runs:
        summary = {
            "recipe": recipe.name,
            "environment": environment(),
            "note": note,
            "disclaimer": DISCLAIMER,
            "seed": run.seed,
            "steps": run.records,
        }
        write_json(run.folder / "summary.json", summary)
        write_text(run.folder / "summary.md", _markdown(recipe, run.records, note))
        summaries.append(summary)
    return summaries[0]


def _markdown(recipe: "Recipe", records: Sequence[Mapping[str, Any]], note: str) -> str:
    header = ["step", "reused", *(title for _, title in COLUMNS), "iterations", "seconds"]
    lines = [
        f"# Recipe {recipe.name}",
        "",
        *([note, ""] if note else []),
        "Test patients only; [95 % interval, bootstrapped over patients].",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    for record in records:
        cells = [record["name"], _reused(record)]
        cells += [_with_interval(record["metrics"], key) for key, _ in COLUMNS]
        cells += [str(record["iterations"]), f"{record['seconds']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", DISCLAIMER, ""])


def summary_table(records: Sequence[Mapping[str, Any]], title: str) -> RichTable:
    """The summary as a table for the terminal."""
    table = RichTable(title=title)
    for name in ("step", "reused"):
        table.add_column(name)
    for _, name in COLUMNS:
        table.add_column(name, justify="right")
    table.add_column("seconds", justify="right")
    for record in records:
        table.add_row(
            record["name"],
            _reused(record),
            *(_with_interval(record["metrics"], key) for key, _ in COLUMNS),
            f"{record['seconds']:.0f}",
        )
    return table


def metrics_table(metrics: Mapping[str, Any], thresholds: Mapping[str, float]) -> RichTable:
    """One evaluation as a table for the terminal."""
    table = RichTable(title="test split, 95 % intervals over patients")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for key in metrics:
        if not key.endswith("_ci"):
            table.add_row(key, _with_interval(metrics, key))
    for key, value in thresholds.items():
        table.add_row(f"{key} (fixed on validation)", f"{value:.3f}")
    return table


def _reused(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{each['module']} < {each['from']}" for each in record["reused"])


def _with_interval(metrics: Mapping[str, Any], key: str) -> str:
    if key not in metrics:
        return ""
    value = metrics[key]
    if value is None or value != value:
        return "undefined"
    low, high = metrics.get(f"{key}_ci") or (None, None)
    if low is None or low != low:
        return f"{value:.3f}"
    return f"{value:.3f} [{low:.2f}, {high:.2f}]"


def write_text(path: Path, text: str) -> None:
    """Write beside the place and rename."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text)
    os.replace(partial, path)
