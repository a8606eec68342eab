"""Takes studies from the queue and has them analysed."""

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import Any

from pe_unified.archive.database import Row
from pe_unified.archive.errors import TryLater, in_words
from pe_unified.archive.job import Answer, Request, analyse
from pe_unified.archive.logs import places
from pe_unified.archive.settings import Settings
from pe_unified.archive.spool import Spool
from pe_unified.archive.store import Store
from pe_unified.archive.web import fetch
from pe_unified.workers import WorkerDied, open_executor, usable_cores

_log = logging.getLogger(__name__)


class Isolated:
    """Calls :func:`~pe_unified.archive.work.analyse` in a separate process that keeps the model;
    a crash of that process affects nothing else."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._executor: Executor | None = None

    def __call__(self, request: Request) -> Answer:
        """See ``analyse``.

        Raises:
            WorkerDied: the process was killed, perhaps because memory ran out.
        """
        try:
            if self._executor is None:
                opened = open_executor(1, None, ["pe_unified.archive.work"], isolated=True)
                self._executor, _ = self._stack.enter_context(opened)
            return self._executor.submit(analyse, request).result()
        except BrokenProcessPool as error:
            self.close()
            raise WorkerDied from error

    def close(self) -> None:
        """End the process once it is idle."""
        self._executor = None
        self._stack.close()


class Analyst:
    """One worker: takes a study, fetches missing images, has it analysed, and stores the outcome.

    Args:
        settings: of the service.
        store, spool: the queue and its files.
        run: the function that analyses.
        timed: called with the seconds of each analysis.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        spool: Spool,
        run: Callable[[Request], Answer],
        timed: Callable[[float], Any] = lambda seconds: None,
    ) -> None:
        self.settings, self.store, self.spool = settings, store, spool
        self.run, self.timed = run, timed
        self.stopping = False
        self.destinations = {each.name: each.objects for each in settings.send}
        self._wants_pictures = any("key_images" in kinds for kinds in self.destinations.values())

    def step(self) -> bool:
        """Process one study; returns whether there was one."""
        study = self.store.take(self.settings.order)
        if study is None:
            return False
        about = {"study": study["key"], "rule": study["rule"]}
        try:
            missing = self._fetch(study)
            if missing:
                reason = f"{missing} of its images are no longer kept; send the whole study again"
                self.store.failed(study, reason)
                _log.error("study failed", extra={**about, "reason": reason})
                return True
            if self.stopping:
                return True
            _log.info("analysis begins", extra=about)
            answer = self.run(self._request(study))
        except TryLater as error:
            state = self.store.again(study, in_words(error))
            _log.warning("study put back", extra={**about, "reason": str(error), "state": state})
            return True
        except Exception as error:
            if not self.stopping:
                self._crashed(study, error, about)
            return True
        self._note(study, answer, about)
        return True

    def _fetch(self, study: Row) -> int:
        if self.settings.poll and self.spool.free_gb() < self.settings.keep.least_free_gb:
            raise TryLater("no room on the disk for its images; make room")
        polls = sorted(self.settings.poll, key=lambda poll: poll.name != study["source"])
        return fetch(polls, self.spool, self.store, study)

    def _request(self, study: Row) -> Request:
        wanted = {series for series, _ in self.store.wanted_images(study["uid"])}
        settings = self.settings
        return Request(
            images=self.spool.choose(study["key"], wanted),
            out=self.spool.report(study["key"]),
            study=study["uid"],
            model=settings.model,
            options=settings.options,
            key_images=settings.key_images if self._wants_pictures else 0,
            threads=settings.threads or max(1, usable_cores() // settings.workers),
        )

    def _crashed(self, study: Row, error: Exception, about: dict[str, Any]) -> None:
        died = isinstance(error, WorkerDied)
        reason = "its worker process was killed (out of memory?)" if died else in_words(error)
        state = self.store.again(study, reason, self.settings.crashes)
        extra = {**about, "reason": reason, "state": state}
        if not died:
            extra["traceback"] = places(error)
        _log.error("analysis crashed", extra=extra)

    def _note(self, study: Row, answer: Answer, about: dict[str, Any]) -> None:
        if answer.final:
            self.store.failed(study, answer.reason)
            _log.error("study failed", extra={**about, "reason": answer.reason})
        elif answer.reason:
            state = self.store.again(study, answer.reason)
            _log.error("study put back", extra={**about, "reason": answer.reason, "state": state})
        else:
            self.timed(answer.seconds)
            state = self.store.analysed(
                study, answer.results, self.destinations, answer.verdict, answer.seconds
            )
            found = {"results": len(answer.results), "seconds": answer.seconds, "state": state}
            _log.info("study analysed", extra={**about, **found})
