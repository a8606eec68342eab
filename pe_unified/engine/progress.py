"""How far training is: bars on a terminal, fed from this process or from others."""

import math
import sys
from collections.abc import Callable
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pe_unified.registry import HOOKS

#: ``show(title, done, total, state)``.
Show = Callable[[str, int, int, str], None]

#: Where :class:`ProgressHook` reports to instead of a bar of its own.
_elsewhere: Show | None = None


def show_progress_by(show: Show | None) -> None:
    """From now on :class:`ProgressHook` of this process reports to ``show``."""
    global _elsewhere
    _elsewhere = show


class ProgressBars:
    """One bar per run under way, on a terminal; silent elsewhere.

    Args:
        console: where to draw; the standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=console is None and not sys.stdout.isatty(),
        )
        self.tasks: dict[str, TaskID] = {}

    def show(self, title: str, done: int, total: int, state: str = "") -> None:
        """Move the bar called ``title``; the first call draws it."""
        if title not in self.tasks:
            self.progress.start()
            self.tasks[title] = self.progress.add_task(title, total=total, state=state)
        self.progress.update(self.tasks[title], completed=done, state=state)

    def drop(self, title: str) -> None:
        """Take away the bar called ``title``, if there is one."""
        task = self.tasks.pop(title, None)
        if task is not None:
            self.progress.remove_task(task)

    def stop(self) -> None:
        self.progress.stop()


@HOOKS.register_module()
class ProgressHook(Hook):
    """A progress bar with loss and time left, on a terminal; silent elsewhere.

    Args:
        title: what the bar is called; the config's ``step`` or file name by default.
    """

    priority = "LOW"

    def __init__(self, title: str | None = None) -> None:
        self.title = title
        self.bars: ProgressBars | None = None
        self._show: Show | None = None

    def before_train(self, runner: Runner) -> None:
        if not is_main_process():
            return
        if _elsewhere is None and sys.stdout.isatty():
            self.bars = ProgressBars()
        self._show = self.bars.show if self.bars else _elsewhere
        if self._show is None:
            return
        self.title = self.title or runner.cfg.get("step") or runner.experiment_name
        self._state(runner, runner.iter, "")

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        if self._show is None:  # reading the loss would wait for the GPU
            return
        loss = float(outputs["loss"].detach()) if outputs and "loss" in outputs else math.nan
        self._state(runner, batch_idx + 1, f"loss {loss:.3f}")

    def before_val_epoch(self, runner: Runner) -> None:
        self._state(runner, runner.iter, "validating")

    def after_run(self, runner: Runner) -> None:
        if self.bars is not None:
            self.bars.stop()
        self.bars = self._show = None

    def _state(self, runner: Runner, done: int, state: str) -> None:
        if self._show is not None:
            self._show(self.title, done, runner.max_iters, state)
