"""Progress of training, validation and test."""

import math
import time
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from pe_unified.progress import drop, tell
from pe_unified.registry import HOOKS

#: Seconds between readings of the loss, each of which waits for the GPU.
_READ_EVERY = 1.0


@HOOKS.register_module()
class ProgressHook(Hook):
    """Reports the iteration with its loss, and the progress of a validation or a test.

    Args:
        title: name of the run; by default the config's ``step``, else the experiment's name.
    """

    priority = "LOW"

    def __init__(self, title: str | None = None) -> None:
        self.title = title
        self._loss, self._read_at = math.nan, -math.inf

    def before_run(self, runner: Runner) -> None:
        self.title = self.title or runner.cfg.get("step") or runner.experiment_name

    def before_train(self, runner: Runner) -> None:
        self._tell(runner.iter, runner.max_iters)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        now = time.monotonic()
        if outputs and "loss" in outputs and now - self._read_at >= _READ_EVERY:
            self._loss, self._read_at = float(outputs["loss"].detach()), now
        self._tell(batch_idx + 1, runner.max_iters, f"loss {self._loss:.3f}")

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        done, total = batch_idx + 1, len(runner.val_dataloader)
        state = f"validating, {done} of {total}" if done < total else "computing metrics"
        self._tell(runner.iter, runner.max_iters, state)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        done, total = batch_idx + 1, len(runner.test_dataloader)
        self._tell(done, total, "testing" if done < total else "computing metrics")

    def after_run(self, runner: Runner) -> None:
        if is_main_process():
            drop(self.title)

    def _tell(self, done: int, total: int, state: str = "") -> None:
        if is_main_process():
            tell(self.title, done, total, state)
