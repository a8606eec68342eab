"""Hooks around the iterations: checkpoints, the mean loss, a guard against NaN."""

import math
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce_dict, all_reduce_params, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from pe_unified.checkpoints import checkpoints_of
from pe_unified.engine.config import ConfigError
from pe_unified.registry import HOOKS
from pe_unified.tasks import less_is_better


@HOOKS.register_module()
class WholeCheckpointHook(Hook):
    """Write ``iter_<n>.pth`` regularly and when training ends; ``best.pth`` on request.

    If a validation falls on the same iteration, the checkpoint is written after it and
    contains its result, so that a run resumed from any checkpoint repeats or skips nothing.
    Weights that are not finite are neither validated nor written; they stop the run. The count
    of an EarlyStoppingHook is not kept: a resumed run counts from 0, unless it was stopped.

    Args:
        interval: iterations between checkpoints; rounded up to whole updates if
            gradients are accumulated.
        max_keep: how many of the newest to keep.
        save_best: a metric's name; the greatest value is the best, or the least if less is better.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int, max_keep: int = 2, save_best: str | None = None) -> None:
        if interval < 1 or max_keep < 1:
            raise ValueError(f"interval and max_keep are at least 1, got {interval}, {max_keep}")
        self.interval = interval
        self.max_keep = max_keep
        self.save_best = save_best
        self._saved: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Note in every process which iteration is saved: at first, where the run starts.

        Raises:
            ConfigError: ``save_best`` is not among the validation metrics.
        """
        self._saved = runner.iter
        if self.save_best is None or runner.val_loop is None:
            return
        metrics = runner.val_loop.evaluator.metrics
        if not all(hasattr(each, "keys") for each in metrics):  # another library's
            return
        known = [f"{each.prefix}/{key}" for each in metrics for key in each.keys]
        if self.save_best not in known:
            raise ConfigError(
                f"save_best='{self.save_best}' is not among the validation metrics: "
                f"{', '.join(known) or 'none'}"
            )

    def _due(self, runner: Runner, finished: int) -> bool:
        """Whether to save now; between updates, accumulated gradients would be lost."""
        accumulated = getattr(runner.optim_wrapper, "_accumulative_counts", 1)
        interval = math.ceil(self.interval / accumulated) * accumulated
        return finished % interval == 0 or finished == runner.max_iters

    @staticmethod
    def _validates(runner: Runner, finished: int) -> bool:
        loop = runner.train_loop
        return (
            runner.val_loop is not None
            and finished >= loop.val_begin
            and (finished % loop.val_interval == 0 or finished == loop.max_iters)
        )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        finished = runner.iter + 1
        validates, due = self._validates(runner, finished), self._due(runner, finished)
        if validates or due:
            _refuse_broken_weights(runner.model, finished, data_batch)
        if due and not validates:
            self._save(runner, finished)

    def after_train(self, runner: Runner) -> None:
        """Save the last weights of a run that was stopped early, as by EarlyStoppingHook.

        The checkpoint records that the run was stopped, so that it is not continued.
        """
        if self._saved != runner.iter or getattr(runner.train_loop, "stop_training", False):
            self._save(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        if isinstance(runner._train_loop, dict) or runner._train_loop is None:
            return
        runner.validated_iter = runner.iter
        runner.validated = {
            key: value for key, value in (metrics or {}).items() if isinstance(value, float | int)
        }
        if self.save_best:
            self._save_if_best(runner)
        if self._due(runner, runner.iter):
            self._save(runner, runner.iter)

    def _save_if_best(self, runner: Runner) -> None:
        value = runner.validated[self.save_best]
        better = operator.lt if less_is_better(self.save_best) else operator.gt
        if not math.isnan(value) and (runner.best is None or better(value, runner.best)):
            runner.best = value
            self._write(runner, "best.pth", runner.iter, save_optimizer=False)

    def _save(self, runner: Runner, finished: int) -> None:
        self._saved = finished
        self._write(runner, f"iter_{finished}.pth", finished)
        self._forget_oldest(Path(runner.work_dir))

    def _write(self, runner: Runner, name: str, finished: int, **kwargs: Any) -> None:
        runner.save_checkpoint(runner.work_dir, name, meta={"iter": finished}, **kwargs)

    @master_only
    def _forget_oldest(self, work_dir: Path) -> None:
        for path in checkpoints_of(work_dir)[: -self.max_keep]:
            path.unlink()


@HOOKS.register_module()
class MeanLossHook(Hook):
    """Log the loss of the whole batch, not of one process's share."""

    priority = "HIGHEST"

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        if runner.world_size > 1 and outputs:
            reduced = {name: value.detach().clone() for name, value in outputs.items()}
            all_reduce_dict(reduced, op="mean")
            outputs.update(reduced)


@HOOKS.register_module()
class MeanBuffersHook(Hook):
    """Give all processes the mean of their batch-norm statistics after every iteration.

    Each process computes them from its own share of the batch. Otherwise validation, the average
    of weights and the checkpoint would depend on the process.
    """

    priority = "VERY_HIGH"

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        if runner.world_size > 1:
            buffers = [each for each in runner.model.buffers() if each.is_floating_point()]
            all_reduce_params(buffers, op="mean")


@HOOKS.register_module()
class NaNGuardHook(Hook):
    """Stop when the loss is not finite, and name the slices of the batch.

    Args:
        interval: iterations between checks; every check waits for the GPU.
    """

    priority = "VERY_HIGH"

    def __init__(self, interval: int = 1) -> None:
        self.interval = interval

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        if not outputs or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        values = {
            name: float(value.detach())
            for name, value in outputs.items()
            if isinstance(value, torch.Tensor) and value.numel() == 1
        }
        broken = {name: value for name, value in values.items() if not math.isfinite(value)}
        if broken:
            what = ", ".join(f"{name} = {value}" for name, value in broken.items())
            raise FloatingPointError(_not_finite(batch_idx + 1, what, data_batch))


def _refuse_broken_weights(model: nn.Module, finished: int, data_batch: dict | None) -> None:
    """A finite loss may have gradients that are not; the next loss would show it too late."""
    broken = [
        name
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if broken:
        what = f"{len(broken)} tensors of the weights are not finite, first {broken[0]}"
        raise FloatingPointError(_not_finite(finished, what, data_batch))


def _not_finite(iteration: int, what: str, data_batch: dict | None) -> str:
    files = "\n  ".join(_files_of(data_batch))
    return (
        f"iteration {iteration}: {what}. The last checkpoint is from before this. Lower the "
        f"learning rate, clip gradients, or look at the slices of this batch:\n  {files}"
    )


def _files_of(data_batch: dict | None) -> list[str]:
    samples: Sequence = (data_batch or {}).get("data_samples", ())
    return [str(sample.metainfo.get("img_path", "unknown file")) for sample in samples]
