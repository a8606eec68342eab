"""How far a run is: patients, slices, and the rate, on a terminal or in a log file."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: Seconds between lines where the output is no terminal.
_LOG_EVERY = 15.0


class ConversionProgress:
    """A bar over patients with a slice rate; plain lines where nobody watches.

    Args:
        name: of the set.
        total: patients in all.
        quiet: show nothing.
    """

    def __init__(self, name: str, total: int, quiet: bool = False):
        self._name, self._total, self._quiet = name, total, quiet
        self._console = Console(file=sys.stderr)
        self._start = self._last_line = time.monotonic()
        self._slices = 0
        self._patients = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("patients, {task.fields[slices]} slices, {task.fields[rate]:.0f} slices/s"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task(name, total=total, slices=0, rate=0.0)

    def __enter__(self) -> "ConversionProgress":
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    @property
    def rate(self) -> float:
        """Slices per second since the start."""
        return self._slices / max(1e-9, time.monotonic() - self._start)

    def slices_done(self, count: int) -> None:
        self._slices += count
        self._bar.update(self._task, slices=self._slices, rate=self.rate)
        self._line_now_and_then()

    def patient_done(self) -> None:
        self._patients += 1
        self._bar.advance(self._task)
        self._line_now_and_then()

    def say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, style=None, markup=False, highlight=False, soft_wrap=True)

    def _line_now_and_then(self) -> None:
        now = time.monotonic()
        if self._console.is_terminal or now - self._last_line < _LOG_EVERY:
            return
        self._last_line = now
        self.say(
            f"{self._name}: {self._patients} of {self._total} patients, "
            f"{self._slices} slices, {self.rate:.0f} slices/s"
        )
