"""One SQLite file, shared by the threads of a process."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


class Database:
    """An open file; every change is a transaction, so a killed process leaves it consistent.

    Args:
        path: of the file, which is created; its folder must exist.
        schema: file next to this module that defines the tables.
        clock: seconds since 1970.
    """

    def __init__(self, path: Path, schema: str, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._lock = threading.RLock()
        self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._base.row_factory = sqlite3.Row
        # What was reported as stored must survive a power cut, too.
        self._base.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        self._base.executescript(files(__package__).joinpath(schema).read_text("utf-8"))

    def close(self) -> None:
        with self._lock:
            self._base.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All changes inside are made together or not at all; a nested one joins the outer one."""
        with self._lock:
            if self._base.in_transaction:
                yield self._base
                return
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[Row]:
        """The rows of a query; read-only."""
        with self._lock:
            return [dict(row) for row in self._base.execute(query, values)]
