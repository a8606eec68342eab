"""How fast a config trains on this machine, and how many iterations fit into a time."""

import copy
import statistics
import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce
from mmengine.hooks import Hook

from pe_unified.checkpoints import config_of, load_checkpoint_safely, newest_checkpoint
from pe_unified.engine.knobs import apply_knobs
from pe_unified.engine.runner import PERunner
from pe_unified.progress import phase

#: Iterations of a trial: those before the measurement, and those that are measured.
_WARMUP, _MEASURED = 4, 8
#: Smallest number of checkpoints in a run, so that an interruption costs little.
_CHECKPOINTS = 10


@dataclass(frozen=True)
class Pace:
    """Seconds per iteration.

    Fields:
        iteration: mean.
        waiting: mean wait for the batch.
        typical: median, which a busy moment does not change.
    """

    iteration: float
    waiting: float
    typical: float


def pace_of(cfg: Config, warmup: int = _WARMUP, iterations: int = _MEASURED) -> Pace:
    """Train a few iterations to measure their speed, and discard the result.

    Args:
        cfg: config of a training; it is not changed, and validation is left out.
        warmup: iterations before those that are measured.
        iterations: number of iterations that are measured.
    """
    cfg = copy.deepcopy(cfg)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.console_level = "WARNING"
    cfg.train_cfg.max_iters = warmup + iterations
    with tempfile.TemporaryDirectory(prefix="pace-") as work_dir:
        cfg.work_dir = work_dir
        cfg.resume = False
        runner = PERunner.from_cfg(cfg)
        stopwatch = _Stopwatch(warmup)
        runner.register_hook(stopwatch)
        runner.train()
    times = stopwatch.iterations
    measured = torch.tensor(
        [statistics.mean(times), statistics.mean(stopwatch.waits), statistics.median(times)]
    )
    all_reduce(measured, "mean")  # processes that train together need one length
    return Pace(*measured.tolist())


def fit_into(cfg: Config, minutes: float) -> None:
    """Make a training take about so many minutes on this machine, not counting validation.

    It saves a checkpoint at least every tenth of the way. A resumed training keeps the length that
    it began with.
    """
    newest = newest_checkpoint(cfg.work_dir) if cfg.resume else None
    if newest:
        iterations = config_of(load_checkpoint_safely(newest))["max_iters"]
    else:
        with phase("measuring the speed"):
            iterations = max(1, round(60 * minutes / pace_of(cfg).typical))
    cfg.update(of_length(cfg, iterations))
    apply_knobs(cfg)
    saving = cfg.default_hooks.checkpoint
    saving.interval = min(saving.interval, max(1, iterations // _CHECKPOINTS))


def of_length(cfg: Config, iterations: int) -> dict[str, int]:
    """Overrides that change the length of a training.

    Warm-up keeps its share of the run, and the schedule ends with the run.
    """
    if "warmup_iters" not in cfg:
        return {"max_iters": iterations}
    warmup = round(cfg.warmup_iters * iterations / cfg.max_iters)
    return {"max_iters": iterations, "warmup_iters": warmup}


class _Stopwatch(Hook):
    """Keeps the times that mmengine's timer hook measures of every iteration."""

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
