"""The queue: what was received, and what is to be analysed.

Every step is one SQLite transaction, so a killed process resumes where it stopped. Each study is
done only once, because its results and its state are written together, results keep their UIDs,
and a repeated delivery adds no image.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from json import dumps, loads
from pathlib import Path
from typing import Any

from pe_unified.archive.database import Row
from pe_unified.archive.outbox import Outbox

#: States of a study: images are arriving; waits for analysis; is being analysed; results wait to be
#: sent; all is sent; no rule selects it; it cannot be analysed; its results could not be delivered.
STATES = (
    *("arriving", "queued", "running", "sending"),
    *("done", "skipped", "failed", "undelivered"),
)
#: States in which processing has ended.
FINAL = ("done", "skipped", "failed", "undelivered")


@dataclass(frozen=True)
class Series:
    """A series as rules see it; ``facts`` include the number of its images and its source."""

    uid: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """A DICOM object made from a study."""

    kind: str
    path: Path
    sop_uid: str


class Store(Outbox):
    """The queue in one SQLite file, for the threads of one process; its results are in the
    :class:`~pe_unified.archive.outbox.Outbox`."""

    # Incoming

    def add_images(
        self,
        study: str,
        key: str,
        series: str,
        images: Iterable[str],
        facts: Mapping[str, Any],
        source: str,
        again: bool = False,
    ) -> bool:
        """Add images of one series; returns whether any of them is new.

        A new image makes the study wait for its quiet time again, and holds back results that are
        not sent yet. A running analysis is finished and checked afterwards.

        Args:
            study, series, images: UIDs.
            key: pseudonym of the study.
            facts: of the series, see :func:`~pe_unified.archive.rules.facts_of`.
            source: the sender, or where they were found.
            again: known images also cause a failed study to be tried again.
        """
        now = self.clock()
        with self.transaction() as base:
            base.execute(
                "INSERT OR IGNORE INTO studies (uid, key, source, state, received, changed)"
                " VALUES (?, ?, ?, 'arriving', ?, ?)",
                (study, key, source, now, now),
            )
            base.execute(
                "INSERT OR IGNORE INTO series (study, uid, facts) VALUES (?, ?, ?)",
                (study, series, dumps(facts)),
            )
            added = base.executemany(
                "INSERT OR IGNORE INTO images (study, series, uid) VALUES (?, ?, ?)",
                [(study, series, image) for image in images],
            ).rowcount
            base.execute(
                "UPDATE studies SET changed = ?, tries = 0, crashes = 0, state ="
                " CASE WHEN state = 'running' THEN state ELSE 'arriving' END"
                " WHERE uid = ? AND (? OR (? AND state IN ('failed', 'arriving')))",
                (now, study, added > 0, again),
            )
        return added > 0

    def quiet(self, seconds: float) -> list[Row]:
        """Arriving studies without new images for this long."""
        before = self.clock() - seconds
        return self.rows("SELECT * FROM studies WHERE state = 'arriving' AND changed <= ?", before)

    def state_of(self, study: str) -> str | None:
        """State by UID; None for an unknown study."""
        rows = self.rows("SELECT state FROM studies WHERE uid = ?", study)
        return rows[0]["state"] if rows else None

    def series_of(self, study: str) -> list[Series]:
        rows = self.rows(
            "SELECT series.uid, facts, source, COUNT(images.uid) AS images"
            " FROM series JOIN studies ON studies.uid = series.study"
            " LEFT JOIN images ON images.study = series.study AND images.series = series.uid"
            " WHERE series.study = ? GROUP BY series.uid",
            study,
        )
        return [
            Series(
                row["uid"],
                {**facts, "images": row["images"] * facts["frames"], "source": row["source"]},
            )
            for row in rows
            for facts in [{"frames": 1, **loads(row["facts"])}]
        ]

    def wanted_images(self, study: str) -> list[tuple[str, str]]:
        """Series and UID of the images to analyse."""
        rows = self.rows(
            "SELECT images.series, images.uid FROM images JOIN series"
            " ON series.study = images.study AND series.uid = images.series"
            " WHERE images.study = ? AND wanted ORDER BY images.series, images.uid",
            study,
        )
        return [(row["series"], row["uid"]) for row in rows]

    def decide(self, study: str, wanted: Sequence[str], rule: str, priority: int) -> str:
        """Queue a complete study; returns its new state.

        Without any series it is ``skipped``. If its results were made from exactly the images to
        analyse, it takes the state of these results, usually ``done``.
        """
        with self.transaction() as base:
            base.execute("UPDATE series SET wanted = 0 WHERE study = ?", (study,))
            base.executemany(
                "UPDATE series SET wanted = 1 WHERE study = ? AND uid = ?",
                [(study, uid) for uid in wanted],
            )
            digest = hashlib.sha256(repr(self.wanted_images(study)).encode()).hexdigest()
            (row,) = self.rows("SELECT done_digest FROM studies WHERE uid = ?", study)
            if not wanted:
                state, reason = "skipped", "no series fits a rule that analyses"
            elif row["done_digest"] == digest:
                state, reason = self._state_of_results(study)
            else:
                state, reason = "queued", ""
            finished = self.clock() if state in FINAL else None
            base.execute(
                "UPDATE studies SET state = ?, reason = ?, rule = ?, priority = ?, digest = ?,"
                " not_before = 0, finished = ? WHERE uid = ?",
                (state, reason, rule, priority, digest, finished, study),
            )
        return state

    # Analysis

    def take(self, order: str = "oldest") -> Row | None:
        """The next study, which is marked as being analysed."""
        way = {"oldest": "ASC", "newest": "DESC"}[order]
        now = self.clock()
        with self.transaction() as base:
            rows = self.rows(
                "SELECT * FROM studies WHERE state = 'queued' AND not_before <= ?"
                f" ORDER BY priority DESC, received {way}, uid LIMIT 1",
                now,
            )
            if not rows:
                return None
            base.execute(
                "UPDATE studies SET state = 'running', started = ? WHERE uid = ?",
                (now, rows[0]["uid"]),
            )
        return {**rows[0], "state": "running", "started": now}

    def analysed(
        self,
        study: Row,
        results: Sequence[Result],
        destinations: Mapping[str, Sequence[str]],
        verdict: str,
        seconds: float,
    ) -> str:
        """Store the results of a study that was taken; returns its new state.

        If images arrived in the meantime, the results are incomplete: they are not sent, and the
        study waits for its quiet time again.

        Args:
            study: as taken.
            results: DICOM objects, which stay where they are until they are sent.
            destinations: kinds of results per destination name.
            verdict: in words, for statistics.
            seconds: duration of the analysis.
        """
        now, uid = self.clock(), study["uid"]
        with self.transaction() as base:
            (row,) = self.rows("SELECT changed FROM studies WHERE uid = ?", uid)
            if row["changed"] > study["started"]:
                base.execute("UPDATE studies SET state = 'arriving' WHERE uid = ?", (uid,))
                return "arriving"
            base.execute("DELETE FROM results WHERE study = ?", (uid,))
            base.executemany(
                "INSERT INTO results (study, destination, kind, path, sop_uid, made)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (uid, name, each.kind, str(each.path), each.sop_uid, now)
                    for name, kinds in destinations.items()
                    for each in results
                    if each.kind in kinds
                ],
            )
            base.execute(
                "UPDATE studies SET state = 'sending', reason = '', done_digest = digest,"
                " tries = 0, crashes = 0, revision = revision + 1, verdict = ?, seconds = ?"
                " WHERE uid = ?",
                (verdict, seconds, uid),
            )
            return self._finish_if_sent(base, uid)

    def failed(self, study: Row, reason: str) -> None:
        """Give up a study: another attempt would fail the same way."""
        self._leave(study, "failed", reason)

    def again(self, study: Row, reason: str, crashes: int = 0) -> str:
        """Put a study back for a later attempt; returns its new state.

        Args:
            study: as taken.
            reason: in words.
            crashes: the study crashed its worker, and is given up after this many crashes. 0 if the
                failure is not its fault; it is then tried until its time is over.
        """
        now, tries = self.clock(), study["tries"] + 1
        ended = study["crashes"] + (crashes > 0)
        over = ended >= crashes if crashes else self.retry.given_up(tries)
        with self.transaction() as base:
            base.execute(
                "UPDATE studies SET tries = ?, crashes = ?, not_before = ? WHERE uid = ?",
                (tries, ended, now + self.retry.delay_s(tries), study["uid"]),
            )
            return self._leave(study, "failed" if over else "queued", reason)

    def _leave(self, study: Row, state: str, reason: str) -> str:
        """End an attempt without results; if images arrived meanwhile, the study arrives again."""
        now = self.clock()
        with self.transaction() as base:
            (row,) = self.rows("SELECT changed FROM studies WHERE uid = ?", study["uid"])
            if row["changed"] > study["started"]:
                state, reason = "arriving", ""
            base.execute(
                "UPDATE studies SET state = ?, reason = ?, finished = ? WHERE uid = ?",
                (state, reason, now if state == "failed" else None, study["uid"]),
            )
        return state

    def recover(self, crashes: int) -> list[tuple[str, str]]:
        """Queue again what an earlier process left unfinished; returns keys and states.

        Args:
            crashes: a study that was being analysed when this many processes died is given up.
        """
        found = []
        for row in self.rows("SELECT * FROM studies WHERE state = 'running'"):
            reason = "the service ended while it analysed this study"
            with self.transaction() as base:
                found.append((row["key"], self.again(row, reason, crashes)))
                # Without any delay.
                base.execute("UPDATE studies SET not_before = 0 WHERE uid = ?", (row["uid"],))
        return found

    def put_back(self) -> None:
        """Queue unfinished work unchanged, because the service is stopped on purpose."""
        with self.transaction():
            for row in self.rows("SELECT * FROM studies WHERE state = 'running'"):
                self._leave(row, "queued", "")

    def retry_failed(self, destinations: Sequence[str]) -> int:
        """Queue failed studies again, and resend undelivered results; returns how many studies.

        A failed study whose images were forgotten stays failed.

        Args:
            destinations: names of those in the settings; results for others stay undelivered.
        """
        marks = ", ".join("?" * len(destinations))
        with self.transaction() as base:
            base.execute(
                "UPDATE results SET state = 'waiting', tries = 0, not_before = 0"
                f" WHERE state = 'given up' AND destination IN ({marks})"
                " AND study IN (SELECT uid FROM studies WHERE state IN ('sending', 'undelivered'))",
                destinations,
            )
            again = base.execute(
                "UPDATE studies SET state = 'sending' WHERE state = 'undelivered'"
                " AND uid IN (SELECT study FROM results WHERE state = 'waiting')"
            ).rowcount
            again += base.execute(
                "UPDATE studies SET tries = 0, crashes = 0, changed = ?, state = 'arriving'"
                " WHERE state = 'failed' AND uid IN (SELECT study FROM images)",
                (self.clock(),),
            ).rowcount
            return again

    def forget_images(self, moment: float) -> None:
        """Delete series and image UIDs of studies that were finished by then; a complete second
        delivery is still recognised by its digest."""
        marks = ", ".join("?" * len(FINAL))
        with self.transaction() as base:
            for table in ("images", "series"):
                base.execute(
                    f"DELETE FROM {table} WHERE study IN (SELECT uid FROM studies WHERE state IN"
                    f" ({marks}) AND finished < ? AND changed < ?)",
                    (*FINAL, moment, moment),
                )
