"""Time that training waits for data, as a share of an iteration.

Trains a few iterations of a real config on generated 512 x 512 slices (or on --data-root) and
takes the time between asking for a batch and having it. "ours" is that wait, "reference" the
whole iteration.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook

from pe_unified.engine import PERunner, load_config


class Stopwatch(Hook):
    """Keeps what mmengine's timer hook measured of every iteration."""

    priority = "LOW"

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.waits: list[float] = []
        self.iterations: list[float] = []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if batch_idx >= self.warmup:
            hub = runner.message_hub
            self.waits.append(hub.get_scalar("train/data_time").current())
            self.iterations.append(hub.get_scalar("train/time").current())


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    with _data(args.data_root) as root:
        return [_measure(args, name, root) for name in args.configs]


def share_of_waiting(cfg: Config, warmup: int, iterations: int) -> tuple[float, float]:
    """Mean seconds that an iteration waits for its batch, and that it takes.

    Args:
        cfg: of a training; its validation is left out.
        warmup: iterations before those that are measured.
        iterations: that are measured.
    """
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.console_level = "WARNING"
    cfg.train_cfg.max_iters = warmup + iterations
    with tempfile.TemporaryDirectory() as work_dir:
        cfg.work_dir = work_dir
        runner = PERunner.from_cfg(cfg)
        stopwatch = Stopwatch(warmup)
        runner.register_hook(stopwatch)
        runner.train()
    return statistics.mean(stopwatch.waits), statistics.mean(stopwatch.iterations)


@contextmanager
def _data(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        raw, converted = Path(folder) / "raw", Path(folder) / "pe"
        paint = ["phantom", raw, "--layout", "fumpe", "--studies", "6", "--size", "512"]
        paint += ["--slices", "24", "--workers", "2"]
        convert = ["convert", "fumpe", raw, converted, "--split", "0.4", "0.3", "0.3"]
        for words in (paint, convert):
            subprocess.run([sys.executable, "-m", "pe_unified", *words, "--quiet"], check=True)
        yield converted


def _measure(args: argparse.Namespace, name: str, root: Path) -> dict[str, Any]:
    overrides = {
        "pretrained": None,
        "input_size": args.input_size,
        "batch_size": args.batch_size,
        "num_workers": args.workers,
    }
    cfg = load_config(name, overrides, str(root))
    wait, whole = share_of_waiting(cfg, args.warmup, args.iterations)
    return {
        "case": f"{name}, {args.input_size} x {args.input_size}, batch {args.batch_size}, "
        f"{args.workers} workers: wait for data / iteration",
        "ours": wait,
        "reference": whole,
        "unit": "s",
    }
