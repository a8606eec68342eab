"""What configs learn in the same time on the same cores, against a plain UNet.

Every config trains for the same number of minutes, one after another, on the same patients: a
trial determines how many iterations that is, the same for all seeds, and the schedule gets this
length. Validation at regular intervals gives curves over training time; the test split is measured
once, at the end. The reference of a metric is the first config that has it; more is better, unlike
in other benchmarks. A run that was stopped resumes with the configs and seeds that are not
finished.
"""

import argparse
import json
import math
import shutil
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from pe_unified.checkpoints import newest_checkpoint
from pe_unified.engine import PERunner, load_config
from pe_unified.engine.evaluate import evaluate_checkpoint
from pe_unified.engine.fingerprint import fingerprint_of
from pe_unified.engine.knobs import apply_knobs
from pe_unified.engine.pace import fit_into, of_length
from pe_unified.errors import UserError
from pe_unified.evaluation.figures import learning_figure
from pe_unified.json_files import write_json
from pe_unified.tasks import MAIN_METRICS, METRIC_NAMES, SLICE_TASKS

#: The metrics that are compared; a network of masks alone also ranks slices, by its highest pixel.
METRICS = (*(MAIN_METRICS[task] for task in SLICE_TASKS), "seg/slice_auc")

_RECORD = "record.json"


class LearningCurve(Hook):
    """Keeps the results of each validation, with the seconds of training until then."""

    priority = "VERY_LOW"

    def __init__(self) -> None:
        self.points: list[dict[str, float]] = []
        self.seconds = 0.0
        self._since = 0.0

    def before_train(self, runner: Any) -> None:
        self._since = time.perf_counter()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.seconds += time.perf_counter() - self._since
        self._since = time.perf_counter()

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, Any] | None = None) -> None:
        found = {key: metrics[key] for key in METRICS if key in (metrics or {})}
        self.points.append({"seconds": self.seconds, **found})
        self._since = time.perf_counter()


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(args.threads)
    records: list[dict[str, Any]] = []
    lengths = _stored_lengths(args)
    for seed in args.seeds:
        for name in args.configs:
            records.append(_record(args, name, seed, lengths.get(name)))
            lengths.setdefault(name, records[-1]["iterations"])
    curves = {
        name: [each["curve"] for each in records if each["config"] == name] for name in args.configs
    }
    figure = args.work_dir / "learning.png"
    learning_figure(curves, METRICS, figure, args.note)
    print(f"curves: {figure}")
    return _rows(records, args)


def _stored_lengths(args: argparse.Namespace) -> dict[str, int]:
    """Iterations of the configs of which a run has finished."""
    files = [(name, _folder(args, name, seed)) for name in args.configs for seed in args.seeds]
    return {
        name: json.loads((folder / _RECORD).read_text(encoding="utf-8"))["iterations"]
        for name, folder in files
        if (folder / _RECORD).is_file()
    }


def _folder(args: argparse.Namespace, name: str, seed: int) -> Path:
    return args.work_dir / f"{Path(name).stem}_seed{seed}"


def _record(
    args: argparse.Namespace, name: str, seed: int, iterations: int | None
) -> dict[str, Any]:
    """The results of a config with a seed; stored in a file, and read from it the next time.

    Args:
        iterations: length of the training; None for as many as fit into the time.
    """
    settings = {
        "pretrained": None,
        "input_size": args.input_size,
        "batch_size": args.batch_size,
        "num_workers": 0,
        "seed": seed,
    }
    cfg = load_config(name, settings, str(args.data_root), of_recipe=True)
    asked = {"minutes": args.minutes, "points": args.points, "threads": args.threads}
    asked["fingerprint"] = fingerprint_of(cfg, {})
    folder = _folder(args, name, seed)
    file = folder / _RECORD
    if file.exists():
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["asked"] != asked:
            raise UserError(
                f"{file}: made with other arguments, another config or other data; name another "
                "--work-dir, or remove it"
            )
        return record
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
    cfg.console_level = "WARNING"
    cfg.step = f"{name}, seed {seed}"
    cfg.work_dir = str(folder)
    if iterations is None:
        fit_into(cfg, args.minutes)
    else:
        cfg.update(of_length(cfg, iterations))
        apply_knobs(cfg)
    cfg.train_cfg.val_interval = math.ceil(cfg.max_iters / args.points)
    cfg.default_hooks.checkpoint.update(interval=cfg.max_iters, max_keep=1)
    curve = LearningCurve()
    runner = PERunner.from_cfg(cfg)
    runner.register_hook(curve)
    runner.train()
    metrics = evaluate_checkpoint(cfg, newest_checkpoint(folder)).metrics
    record = {
        "asked": asked,
        "config": name,
        "seed": seed,
        "iterations": cfg.max_iters,
        "minutes": curve.seconds / 60,
        "curve": curve.points,
        "test": {key: metrics[key] for key in METRICS if key in metrics},
    }
    write_json(file, record)
    return record


def _rows(records: list[dict[str, Any]], args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    minutes = {
        name: statistics.mean(each["minutes"] for each in records if each["config"] == name)
        for name in args.configs
    }
    for metric in METRICS:
        by_config = {
            name: [
                e["test"][metric] for e in records if e["config"] == name and metric in e["test"]
            ]
            for name in args.configs
        }
        measured = {name: values for name, values in by_config.items() if values}
        for name, values in measured.items():
            mean, low, high = statistics.mean(values), min(values), max(values)
            print(f"{METRIC_NAMES[metric]}, {name}: {mean:.3f}, seeds {low:.3f} to {high:.3f}")
        reference = next(iter(measured), None)
        for name in list(measured)[1:]:
            rows.append(
                {
                    "case": f"{name} beside {reference}, {minutes[name]:.1f} and "
                    f"{minutes[reference]:.1f} min, {len(args.seeds)} seeds",
                    "ours": statistics.mean(measured[name]),
                    "reference": statistics.mean(measured[reference]),
                    "unit": f"{METRIC_NAMES[metric]}, more is better",
                }
            )
    return rows
