"""The outbox of the queue: what has to be sent where."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pe_unified.archive.backoff import Backoff
from pe_unified.archive.database import Database, Row


class Outbox(Database):
    """The results in the queue's SQLite file, which are sent and tried again.

    Args:
        path: of the file, which is created.
        retry: delays before failed steps are repeated.
        clock: seconds since 1970.
    """

    def __init__(
        self, path: Path, retry: Backoff | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(path, "schema.sql", clock)
        self.retry = retry or Backoff()

    def keep_destinations(self, names: Sequence[str]) -> None:
        """Give up results that wait for destinations that are no longer listed."""
        marks = ", ".join("?" * len(names))
        gone = self.rows(
            f"SELECT * FROM results WHERE state = 'waiting' AND destination NOT IN ({marks})",
            *names,
        )
        reason = "its destination is no longer in the settings"
        self._settle(gone, "state = 'given up', reason = ?", (reason,))

    def due(self, destination: str) -> list[Row]:
        """The results of one study that are due at this destination; the oldest first."""
        rows = self.rows(
            "SELECT results.*, studies.key FROM results JOIN studies ON studies.uid = study"
            " WHERE destination = ? AND results.state = 'waiting' AND results.not_before <= ?"
            " AND studies.state = 'sending'"
            " ORDER BY made, id",
            *(destination, self.clock()),
        )
        return [row for row in rows if row["study"] == rows[0]["study"]]

    def sent(self, results: Sequence[Row]) -> None:
        """Mark results as accepted by the other machine."""
        self._settle(results, "state = 'sent', reason = ''", ())

    def not_sent(self, results: Sequence[Row], reason: str) -> None:
        """Mark results of one study as not accepted; they are tried again later, together, or given
        up."""
        now, tries = self.clock(), 1 + max(result["tries"] for result in results)
        over = self.retry.given_up(tries)
        self._settle(
            results,
            "state = ?, reason = ?, tries = ?, not_before = ?",
            (
                *("given up" if over else "waiting", reason, tries),
                now + self.retry.delay_s(tries),
            ),
        )

    def _settle(self, results: Sequence[Row], change: str, values: tuple) -> None:
        with self.transaction() as base:
            for result in results:
                # A new analysis replaces results, and theirs may be the ids of the old ones.
                base.execute(
                    f"UPDATE results SET {change} WHERE id = ? AND sop_uid = ?",
                    (*values, result["id"], result["sop_uid"]),
                )
            for study in {result["study"] for result in results}:
                self._finish_if_sent(base, study)

    def _finish_if_sent(self, base: sqlite3.Connection, study: str) -> str:
        """The state of a study after its results were tried; an arriving study stays so."""
        state, reason = self._state_of_results(study)
        finished = None if state == "sending" else self.clock()
        base.execute(
            "UPDATE studies SET state = ?, reason = ?, finished = ?"
            " WHERE uid = ? AND state = 'sending'",
            (state, reason, finished, study),
        )
        return state

    def _state_of_results(self, study: str) -> tuple[str, str]:
        """``sending``, ``undelivered`` or ``done``, and the reason."""
        rows = self.rows("SELECT state, reason FROM results WHERE study = ?", study)
        lost = [row["reason"] for row in rows if row["state"] == "given up"]
        if any(row["state"] == "waiting" for row in rows):
            return "sending", ""
        return ("undelivered", lost[0]) if lost else ("done", "")
