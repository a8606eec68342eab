"""Progress of work: bars on a terminal, lines in a log or a pipe.

Any code may report progress; as with logging, the command decides whether it is shown. In
library use, nothing is printed. Progress goes to standard error; standard output is for
results.
"""

import sys
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Seconds until the first line of a log, between lines in the first half minute, and later.
FIRST, EARLY, LATER = 3.0, 5.0, 30.0

Item = TypeVar("Item")


class Display(Protocol):
    """Where progress is shown."""

    def show(self, title: str, done: int, total: int | None, state: str) -> None:
        """Update the progress of ``title``, or start it. ``total`` is None if unknown."""

    def drop(self, title: str) -> None:
        """Remove the progress of ``title``, if there is any."""

    def say(self, line: str) -> None:
        """Print a line that stays."""


_display: Display | None = None


def show_progress_by(display: Display | None) -> Display | None:
    """Set the display of this process's progress; returns the previous one."""
    global _display
    before, _display = _display, display
    return before


@contextmanager
def quietly(quiet: bool = True) -> Iterator[None]:
    """Show no progress in the block; if ``quiet`` is false, show it as before."""
    before = show_progress_by(None if quiet else _display)
    try:
        yield
    finally:
        show_progress_by(before)


def tell(title: str, done: int = 0, total: int | None = None, state: str = "") -> None:
    """Report how far something is."""
    if _display is not None:
        _display.show(title, done, total, state)


def say(line: str) -> None:
    """Print a line that stays, where progress is shown."""
    if _display is not None:
        _display.say(line)


def drop(title: str) -> None:
    """Report that something has ended."""
    if _display is not None:
        _display.drop(title)


@contextmanager
def phase(title: str) -> Iterator[None]:
    """Report that something of unknown length is running."""
    tell(title)
    try:
        yield
    finally:
        drop(title)


def track(items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items and report how many are done; ``total`` if they cannot be counted."""
    if total is None and isinstance(items, Collection):
        total = len(items)
    try:
        for done, item in enumerate(items):
            tell(title, done, total)
            yield item
    finally:
        drop(title)


class ProgressBars:
    """On a terminal, a bar for each running task; elsewhere lines, more often at first.

    Args:
        console: where to draw; the standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            redirect_stdout=sys.stdout.isatty(),
            speed_estimate_period=300,
        )
        self.tasks: dict[str, TaskID] = {}
        self._next_line: dict[TaskID, float] = {}
        self._stopped = threading.Event()
        self._writer: threading.Thread | None = None

    def show(self, title: str, done: int, total: int | None, state: str = "") -> None:
        if title in self.tasks and self._task(title).total != total:
            self.drop(title)
        if title not in self.tasks:
            self._start()
            self.tasks[title] = self.progress.add_task(
                title, total=total, completed=done, state=state
            )
        self.progress.update(self.tasks[title], completed=done, state=state)

    def drop(self, title: str) -> None:
        task = self.tasks.pop(title, None)
        if task is not None:
            self.progress.remove_task(task)

    def say(self, line: str) -> None:
        self.console.print(line, style=None, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        self._stopped.set()
        if self._writer is not None:
            self._writer.join()
        self.progress.stop()

    def write_lines(self) -> None:
        """Write the lines that are due; a task that ends within ``FIRST`` seconds writes none."""
        for task in self.progress.tasks:
            elapsed = task.elapsed or 0.0
            if elapsed >= self._next_line.get(task.id, FIRST):
                self._next_line[task.id] = elapsed + (EARLY if elapsed < LATER else LATER)
                self.say(_line(task))

    def _start(self) -> None:
        self.progress.start()
        if self._writer is None and not self.console.is_terminal:
            self._writer = threading.Thread(target=self._write_in_turn, daemon=True)
            self._writer.start()

    def _write_in_turn(self) -> None:
        while not self._stopped.wait(1.0):
            self.write_lines()

    def _task(self, title: str) -> Task:
        return next(task for task in self.progress.tasks if task.id == self.tasks[title])


def _line(task: Task) -> str:
    said = [task.fields["state"]]
    if task.total is None:
        said.insert(0, f"for {duration(task.elapsed or 0.0)}")
    else:
        said.insert(0, f"{task.completed:.0f} of {task.total:.0f}")
        if task.time_remaining:
            said.append(f"{duration(task.time_remaining)} left")
    return f"{task.description}: {', '.join(part for part in said if part)}"


def duration(seconds: float) -> str:
    """Text with two units at most: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
