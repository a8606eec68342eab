"""Reads the state of the queue: counts for metrics, rows for the status page."""

from pe_unified.archive.database import Row
from pe_unified.archive.store import FINAL, STATES, Store

#: Columns of a study that hold times, seconds since 1970; 0 or None if not reached.
MOMENTS = ("received", "changed", "not_before", "started", "finished")


def counts(store: Store) -> dict[str, int]:
    """Number of studies by state."""
    rows = store.rows("SELECT state, COUNT(*) AS number FROM studies GROUP BY state")
    return {**dict.fromkeys(STATES, 0), **{row["state"]: row["number"] for row in rows}}


def waiting_results(store: Store) -> dict[str, int]:
    """Number of results that wait to be sent, by destination."""
    rows = store.rows(
        "SELECT destination, COUNT(*) AS number FROM results JOIN studies ON studies.uid = study"
        " WHERE results.state = 'waiting' AND studies.state = 'sending' GROUP BY destination"
    )
    return {row["destination"]: row["number"] for row in rows}


def verdicts(store: Store) -> dict[str, int]:
    """Number of analysed studies by their newest verdict."""
    rows = store.rows(
        "SELECT verdict, COUNT(*) AS number FROM studies WHERE revision > 0 GROUP BY verdict"
    )
    return {row["verdict"]: row["number"] for row in rows}


def oldest_waiting(store: Store) -> float | None:
    """Arrival of the newest image of the study that waits longest; None if none waits."""
    (row,) = store.rows(
        "SELECT MIN(changed) AS oldest FROM studies WHERE state IN ('queued', 'running')"
    )
    return row["oldest"]


def recent(store: Store, limit: int = 100) -> list[Row]:
    """Studies, most recently changed first, with the number of their images and results, and the
    reason why results cannot be sent (``obstacle``)."""
    return store.rows(
        "SELECT *, (SELECT COUNT(*) FROM images WHERE study = studies.uid) AS images,"
        " (SELECT COUNT(*) FROM results WHERE study = studies.uid AND state = 'sent') AS sent,"
        " (SELECT COUNT(*) FROM results WHERE study = studies.uid) AS results,"
        " (SELECT reason FROM results WHERE study = studies.uid AND state = 'waiting'"
        " ORDER BY tries DESC LIMIT 1) AS obstacle FROM studies"
        " ORDER BY MAX(changed, COALESCE(finished, 0), COALESCE(started, 0)) DESC LIMIT ?",
        limit,
    )


def find(store: Store, name: str) -> Row | None:
    """A study by its key or its UID."""
    rows = store.rows("SELECT * FROM studies WHERE key = ? OR uid = ?", name, name)
    return rows[0] if rows else None


def finished_before(store: Store, moment: float) -> list[str]:
    """Keys of studies whose processing had ended by then."""
    marks = ", ".join("?" * len(FINAL))
    rows = store.rows(
        f"SELECT key FROM studies WHERE state IN ({marks}) AND finished < ? AND changed < ?",
        *(*FINAL, moment, moment),
    )
    return [row["key"] for row in rows]
