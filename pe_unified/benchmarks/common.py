"""Shared by all benchmarks: interleaved timing, the machine's name, the table."""

import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from pe_unified.progress import track
from pe_unified.recipes.summary import processor

_PACKAGES = (
    "torch",
    "onedl-mmengine",
    "onedl-mmdetection",
    "opencv-python-headless",
    "pydicom",
    "monai",
    "segmentation-models-pytorch",
)


def environment() -> tuple[str, dict[str, str]]:
    """A description of the machine, and the versions that affect speed."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{processor()}, {psutil.cpu_count(logical=True)} cores, {memory:.0f} GiB"
    return machine, versions


def side_by_side(
    ours: Callable[[], Any], reference: Callable[[], Any], repeats: int, warmup: int = 1
) -> tuple[float, float]:
    """Median seconds of each, run in turn so that a busy moment affects both equally."""
    for _ in range(warmup):
        ours()
        reference()
    return in_turn(lambda: seconds_of(ours), lambda: seconds_of(reference), repeats)


def seconds_of(call: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(
    ours: Callable[[], float], reference: Callable[[], float], repeats: int
) -> tuple[float, float]:
    """Medians of the values that each returns, called in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in track(range(repeats), "timing"):
        order = ((0, ours), (1, reference)) if repeat % 2 == 0 else ((1, reference), (0, ours))
        for slot, call in order:
            times[slot].append(call())
    return statistics.median(times[0]), statistics.median(times[1])


def print_table(rows: list[dict[str, Any]]) -> None:
    table = Table(title=f"{rows[0]['what']}: {rows[0]['machine']}" if rows else "no rows")
    for column in ("case", "ours", "reference", "ratio", "unit"):
        table.add_column(column, justify="left" if column in ("case", "unit") else "right")
    for row in rows:
        table.add_row(
            row["case"],
            f"{row['ours']:.4g}",
            f"{row['reference']:.4g}",
            f"{row['ratio']:.3f}",
            row["unit"],
        )
    Console().print(table)
