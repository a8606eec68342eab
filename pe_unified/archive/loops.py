"""Threads that repeat one step, and report their health."""

import logging
import threading
from collections.abc import Callable

from pe_unified.archive.backoff import Backoff
from pe_unified.archive.errors import in_words
from pe_unified.archive.logs import places
from pe_unified.errors import UserError

_log = logging.getLogger(__name__)


class Loop:
    """Calls ``step`` until it is stopped; after an error, which is logged, it waits, longer each
    time.

    Args:
        name: in logs and in ``/health``.
        step: returns whether there was something to do; then the next call follows at once.
        pause_s: between calls otherwise.
        retry: how long to wait after errors.
    """

    def __init__(self, name: str, step: Callable[[], bool], pause_s: float, retry: Backoff) -> None:
        self.name, self.step, self.pause_s, self.retry = name, step, pause_s, retry
        self.trouble = ""
        self._failures = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop; :meth:`join` waits for the end."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        if self._thread.ident is not None:  # it may not have been started
            self._thread.join(seconds)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self._once())

    def _once(self) -> float:
        """Run one step; returns the seconds until the next."""
        try:
            busy = self.step()
        except Exception as error:  # no error may end the service
            self._failures += 1
            self.trouble = in_words(error)
            extra: dict[str, object] = {"kind": self.name, "reason": self.trouble}
            if not isinstance(error, UserError):
                extra["traceback"] = places(error)
            _log.error("step failed", extra={**extra, "tries": self._failures})
            return self.retry.delay_s(self._failures)
        self._failures, self.trouble = 0, ""
        return 0.0 if busy else self.pause_s
