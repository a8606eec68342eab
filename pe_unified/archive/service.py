"""The service: receives and looks for studies, decides, has them analysed, sends what comes of it.

Each part is a loop of its own around the queue, so that an archive that is away stops nothing else.
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

#: Seconds between looks at the queue, and between tidyings.
TICK_S, _TIDY_S = 0.5, 600.0
#: After errors in a loop: an archive that is away is asked again soon, and not too often.
PATIENCE = Backoff(first_s=2.0, most_s=120.0)

_log = logging.getLogger(__name__)


class Service:
    """All of it; nothing runs before :meth:`start`.

    Args:
        settings: of the service.
        run: analyses a study; by default in a process of its own, one for each worker.

    Raises:
        ArchiveError: another service works in the same folder.
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
                f"another pe-unified pacs works in {settings.folder}; end it, or choose another "
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
        """Begin; what an earlier process left is taken up.

        Raises:
            ArchiveError: a port cannot be had.
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
        """Take nothing more, leave what is at work in the queue, end all threads."""
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
            end_workers()  # one may have been started meanwhile
        for each in self._isolated:
            each.close()
        if self.page is not None:
            self.page.close()
        self.store.put_back()
        self.store.close()
        self._lock.release()
        self.closed = True

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether it can work, and what each loop says; another machine's absence is told, and is
        no illness of this one."""
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
        """Decide on the studies that are complete; whether there was one."""
        with self.store.transaction():  # no image comes in between
            complete = self.store.quiet(self.settings.complete_after_s)
            for study in complete:
                series = self.store.series_of(study["uid"])
                chosen = {each.uid: decide(self.settings.rules, each.facts) for each in series}
                wanted = {uid: rule for uid, rule in chosen.items() if rule and rule.analyse}
                # Of several rules the one of the highest priority names the study.
                best = max(wanted.values(), key=lambda rule: rule.priority, default=None)
                name, priority = (best.name, best.priority) if best else ("", 0)
                state = self.store.decide(study["uid"], list(wanted), name, priority)
                images = sum(int(each.facts["images"]) for each in series)
                about = {"study": study["key"], "rule": name, "images": images, "state": state}
                _log.info("study complete", extra=about)
        return bool(complete)

    def tidy(self) -> bool:
        """Remove files of studies that are long finished, then the UIDs of their images; the queue
        keeps what was done."""
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
        """Send the results of one study; an archive that has some already takes them once."""
        paths = [Path(each["path"]) for each in waiting]
        title = self.settings.receive.ae_title if self.settings.receive else TITLE
        try:
            if destination.dicom is not None:
                failed = send_results(destination.dicom, paths, title)
            else:
                assert destination.web is not None  # by the schema
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
