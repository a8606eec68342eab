"""The service: receives and polls studies, selects them, has them analysed, sends the results.

Each part is a separate loop around the queue, so an unreachable archive does not stop the rest.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pe_unified.archive import overview
from pe_unified.archive.analyst import Analyst, Isolated
from pe_unified.archive.backoff import Backoff
from pe_unified.archive.database import Row
from pe_unified.archive.errors import ArchiveError, in_words
from pe_unified.archive.job import Answer, Request
from pe_unified.archive.loops import Loop
from pe_unified.archive.metrics import Metrics
from pe_unified.archive.nodes import TITLE, send_results
from pe_unified.archive.receiver import Receiver
from pe_unified.archive.rules import decide
from pe_unified.archive.settings import Destination, Poll, Settings
from pe_unified.archive.spool import Spool
from pe_unified.archive.status import StatusServer
from pe_unified.archive.store import Store
from pe_unified.archive.web import Poller, store_results
from pe_unified.workers import end_workers

#: Seconds between checks of the queue, and between clean-ups.
TICK_S, _TIDY_S = 0.5, 600.0
#: Delays after errors in a loop: an unreachable archive is tried again soon, but not too often.
PATIENCE = Backoff(first_s=2.0, most_s=120.0)

_log = logging.getLogger(__name__)


class Service:
    """The whole service; nothing runs before :meth:`start`.

    Args:
        settings: of the service.
        run: analyses a study; by default in a separate process for each worker.

    Raises:
        ArchiveError: another service uses the same folder.
        OSError: the folder cannot be written to.
    """

    def __init__(self, settings: Settings, run: Callable[[Request], Answer] | None = None) -> None:
        self.settings = settings
        self.spool = Spool(settings.folder)
        self._lock = FileLock(settings.folder / ".lock")
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise ArchiveError(
                f"another pe-unified pacs runs in {settings.folder}; end it, or choose another "
                "folder"
            ) from error
        self.store = Store(settings.database, settings.retry)
        self.metrics = Metrics(self.store, self.spool)
        self.closed = False
        self.receiver: Receiver | None = None
        self.page: StatusServer | None = None
        self._isolated = [] if run else [Isolated() for _ in range(settings.workers)]
        runs = [run] * settings.workers if run else self._isolated
        self.analysts = [
            Analyst(settings, self.store, self.spool, each, self.metrics.seconds.observe)
            for each in runs
        ]
        self.loops = [
            Loop("decide", self.decide, TICK_S, PATIENCE),
            Loop("tidy", self.tidy, _TIDY_S, PATIENCE),
            *(
                Loop(f"poll {each.name}", self._look(each), each.every_s, PATIENCE)
                for each in settings.poll
            ),
            *(
                Loop(f"analysis {number}", each.step, TICK_S, PATIENCE)
                for number, each in enumerate(self.analysts, 1)
            ),
            *(
                Loop(f"send {each.name}", self._sending(each), TICK_S, PATIENCE)
                for each in settings.send
            ),
        ]

    def start(self) -> None:
        """Start; work that an earlier process left unfinished is resumed.

        Raises:
            ArchiveError: a port is not available.
        """
        for key, state in self.store.recover(self.settings.crashes):
            _log.warning("taken up again", extra={"study": key, "state": state})
        self.store.keep_destinations([each.name for each in self.settings.send])
        self.page = StatusServer(self.settings.status, self)
        if self.settings.receive is not None:
            self.receiver = Receiver(
                self.settings.receive,
                self.spool,
                self.store,
                self.settings.keep.least_free_gb,
                lambda what: self.metrics.images.labels(what).inc(),
            )
            _log.info("listening", extra={"kind": "dicom", "port": self.receiver.port})
        _log.info("listening", extra={"kind": "status", "port": self.page.port})
        for loop in self.loops:
            loop.start()

    def close(self) -> None:
        """Accept nothing more, put unfinished work back into the queue, and end all threads."""
        for analyst in self.analysts:
            analyst.stopping = True
        for loop in self.loops:
            loop.stop()
        if self.receiver is not None:
            self.receiver.close()
        if self._isolated:
            end_workers()
        for loop in self.loops:
            loop.join(10.0)
        if self._isolated:
            end_workers()  # one may have been started in the meantime
        for each in self._isolated:
            each.close()
        if self.page is not None:
            self.page.close()
        self.store.put_back()
        self.store.close()
        self._lock.release()
        self.closed = True

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether it can work, and the state of each loop. An unreachable machine is reported, but
        does not make this service unhealthy."""
        dead = [loop.name for loop in self.loops if not loop.alive]
        room = self.spool.free_gb() >= self.settings.keep.least_free_gb
        told = {
            "status": "ok" if room and not dead else "ill",
            "ended": dead,
            "room_on_disk": room,
            "studies": overview.counts(self.store),
            "trouble": {loop.name: loop.trouble for loop in self.loops if loop.trouble},
        }
        return room and not dead, told

    def decide(self) -> bool:
        """Decide on the studies that are complete; returns whether there was one."""
        with self.store.transaction():  # no image arrives in between
            complete = self.store.quiet(self.settings.complete_after_s)
            for study in complete:
                series = self.store.series_of(study["uid"])
                chosen = {each.uid: decide(self.settings.rules, each.facts) for each in series}
                wanted = {uid: rule for uid, rule in chosen.items() if rule and rule.analyse}
                # If several rules apply, the one with the highest priority names the study.
                best = max(wanted.values(), key=lambda rule: rule.priority, default=None)
                name, priority = (best.name, best.priority) if best else ("", 0)
                state = self.store.decide(study["uid"], list(wanted), name, priority)
                images = sum(int(each.facts["images"]) for each in series)
                about = {"study": study["key"], "rule": name, "images": images, "state": state}
                _log.info("study complete", extra=about)
        return bool(complete)

    def tidy(self) -> bool:
        """Remove the files of studies that ended long ago, then the UIDs of their images; the queue
        keeps the record."""
        keep, now = self.settings.keep, self.store.clock()
        for days, folder_of in (
            (keep.images_days, self.spool.images),
            (keep.images_days, self.spool.chosen),
            (keep.reports_days, self.spool.report),
        ):
            for key in overview.finished_before(self.store, now - 86400 * days):
                folder = folder_of(key)
                if folder.exists():
                    self.spool.drop(folder)
        self.store.forget_images(now - 86400 * keep.reports_days)
        return False

    def _look(self, poll: Poll) -> Callable[[], bool]:
        poller = Poller(poll, self.spool, self.store)

        def look() -> bool:
            new = poller.look()
            if new:
                _log.info("new images", extra={"source": poll.name, "number": new})
            return False

        return look

    def _sending(self, destination: Destination) -> Callable[[], bool]:
        def send() -> bool:
            waiting = self.store.due(destination.name)
            if waiting:
                self._send(destination, waiting)
            return bool(waiting)

        return send

    def _send(self, destination: Destination, waiting: list[Row]) -> None:
        """Send the results of one study; an archive that already has some stores them only once."""
        paths = [Path(each["path"]) for each in waiting]
        title = self.settings.receive.ae_title if self.settings.receive else TITLE
        try:
            if destination.dicom is not None:
                failed = send_results(destination.dicom, paths, title)
            else:
                assert destination.web is not None  # guaranteed by the schema
                failed = store_results(destination.web, paths)
        except Exception as error:
            failed = dict.fromkeys((each["sop_uid"] for each in waiting), in_words(error))
        taken = [each for each in waiting if each["sop_uid"] not in failed]
        refused = [each for each in waiting if each["sop_uid"] in failed]
        about = {"study": waiting[0]["key"], "destination": destination.name}
        if taken:
            self.store.sent(taken)
            self.metrics.sendings.labels(destination.name, "sent").inc(len(taken))
            _log.info("results sent", extra={**about, "number": len(taken)})
        if refused:
            reason = failed[refused[0]["sop_uid"]]
            self.store.not_sent(refused, reason)
            self.metrics.sendings.labels(destination.name, "failed").inc(len(refused))
            about["reason"] = reason
            tries = refused[0]["tries"] + 1
            _log.warning(
                "results not sent", extra={**about, "number": len(refused), "tries": tries}
            )
