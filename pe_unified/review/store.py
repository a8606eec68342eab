"""Stores readers' decisions next to the reports: an SQLite file, and the redrawn masks.

Nothing is ever changed or removed; undone decisions stay in the history. What was added survives
a crash of the process or of the machine.
"""

import hashlib
import io
import json
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pe_unified.errors import DataError
from pe_unified.files import appearing
from pe_unified.reports.file_names import REDRAWN
from pe_unified.review.decisions import (
    DECIDING,
    ConflictError,
    Decision,
    DecisionError,
    in_force,
    require_fitting,
    standing,
    state,
)
from pe_unified.review.reports import StudyReport, find_reports

__all__ = ["ConflictError", "Decision", "DecisionError", "ReviewStore"]

#: File in the folder of the reports.
STORE = "reviews.sqlite"
_VERSION = 1
_COLUMNS = ("study", "reader", "kind", "lesion", "value", "model", "made")
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    study TEXT NOT NULL, reader TEXT NOT NULL, kind TEXT NOT NULL, lesion INTEGER,
    value TEXT NOT NULL, model TEXT NOT NULL, made TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_study ON decisions (study, number);
CREATE TRIGGER IF NOT EXISTS never_changed BEFORE UPDATE ON decisions
    BEGIN SELECT RAISE(ABORT, 'decisions are never changed'); END;
CREATE TRIGGER IF NOT EXISTS never_removed BEFORE DELETE ON decisions
    BEGIN SELECT RAISE(ABORT, 'decisions are never removed'); END;
PRAGMA user_version = {_VERSION};
COMMIT;
"""
#: Other processes write for milliseconds only; after this many seconds one must be hanging.
_PATIENCE_S = 30.0
_MASK_NAME = re.compile(r"[0-9a-f]{16}\.npz")


class ReviewStore:
    """The decisions on the reports of one folder. Safe for threads and for several processes.

    Args:
        path: output folder of ``pe-unified infer`` or ``pe-unified batch``; the decisions are
            stored there, in ``reviews.sqlite``.

    Raises:
        DataError: no such folder, or the store cannot be opened. Damaged reports are left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.reports()
        with self._open() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > _VERSION:
                reason = "was written by a newer version of pe_unified"
                raise DataError(self.path / STORE, reason, "update pe_unified")
            if version < _VERSION:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(_SCHEMA)

    def add(self, decision: Decision, seen: int | None = None) -> Decision:
        """Store a decision; it is durable when this returns.

        Args:
            decision: its number and time are set here.
            seen: number of the newest decision on the study that the reader has seen; 0 for none.
                None for a blinded reader: no comparison is made.

        Returns:
            The decision as stored.

        Raises:
            ConflictError: another reader has decided on the same lesion since, or the report was
                made again by another model.
            DecisionError: it does not fit the report, or undoes another reader's decision.
            DataError: the store cannot be written to.
        """
        report = self.report(decision.study)
        require_fitting(decision, report)
        if "mask" in decision.value:
            self.load_mask(decision.study, decision.value["mask"])
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            history = self._read(connection, decision.study)
            if decision.kind == "undo":
                decision = replace(decision, lesion=_undone(decision, history).lesion)
            elif seen is not None:
                _require_seen(decision, history, seen)
            made = datetime.now(UTC).isoformat(timespec="milliseconds")
            row = asdict(replace(decision, made=made)) | {"value": json.dumps(decision.value)}
            places = ", ".join(f":{column}" for column in _COLUMNS)
            columns = ", ".join(_COLUMNS)
            sql = f"INSERT INTO decisions ({columns}) VALUES ({places})"
            number = connection.execute(sql, row).lastrowid
            connection.execute("COMMIT")
        return replace(decision, made=made, number=int(number or 0))

    def history(self, study: str | None = None) -> list[Decision]:
        """All decisions on a study, in order, undone or not; without ``study`` those on all
        studies, including those whose report is missing or damaged."""
        with self._open() as connection:
            return self._read(connection, study)

    def of_now(self, study: str, reader: str | None = None) -> list[Decision]:
        """The history, restricted to the model that made the present report."""
        model = self.report(study).model
        return [
            each
            for each in self.history(study)
            if each.model == model and reader in (None, each.reader)
        ]

    def current(self, study: str, reader: str | None = None) -> list[Decision]:
        """The decisions that stand, in order: not undone, not replaced by a newer one, and made on
        the present report.

        Args:
            study: name of the study.
            reader: whose decisions; None for all readers, of which the newest stand.
        """
        return standing(self.of_now(study, reader))

    def state(self, study: str, reader: str | None = None) -> str:
        """``"unread"``, ``"in work"`` or ``"done"``; over all readers if ``reader`` is None."""
        return state(self.of_now(study, reader))

    def readers(self, study: str) -> list[str]:
        """Names of the readers whose decisions stand, sorted."""
        return sorted({each.reader for each in in_force(self.of_now(study))})

    def states(self, reader: str | None = None) -> dict[str, str]:
        """``"unread"``, ``"in work"`` or ``"done"`` for every report in the folder, by study.

        Args:
            reader: state for this reader; None: for all readers together.
        """
        said: dict[str, list[Decision]] = {}
        for each in self.history():
            if reader is None or each.reader == reader:
                said.setdefault(each.study, []).append(each)
        return {
            study: state(each for each in said.get(study, ()) if each.model == report.model)
            for study, report in self.reports().items()
        }

    def reports(self) -> dict[str, StudyReport]:
        """The reports by study; damaged ones are left out."""
        return find_reports(self.path)[0]

    def report(self, study: str) -> StudyReport:
        """The report of a study.

        Raises:
            DecisionError: there is none.
        """
        found = self.reports().get(study)
        if found is None:
            raise DecisionError(f"study {study}: there is no report of it")
        return found

    def save_mask(
        self, study: str, reader: str, array: np.ndarray, slices: Mapping[int, str | None]
    ) -> str:
        """Store a redrawn mask in the folder of its report, completely or not at all.

        Args:
            study: name of the study.
            reader: who drew it.
            array: uint8 (slices, rows, cols) in the order of ``report.json``; not 0 inside the
                lesion.
            slices: SOP Instance UIDs by slice index, as shown to the reader: all, some or none.
                They are compared with the report.

        Returns:
            The name for the ``{"mask": name}`` of a decision.

        Raises:
            ConflictError: the report now has other slices.
            DecisionError: the mask differs from the study in size, or is empty.
            DataError: the folder cannot be written to.
        """
        report = self.report(study)
        if array.shape != report.shape:
            raise DecisionError(
                f"study {study}: a mask of {array.shape} pixels, the study has {report.shape}"
            )
        if not array.any():
            raise DecisionError(f"study {study}: an empty mask; reject the lesion instead")
        known = dict(enumerate(report.sop_uids))
        if any(known.get(int(index)) != uid for index, uid in slices.items()):
            raise ConflictError(f"study {study}: the report has other slices now; load it again")
        packed = io.BytesIO()
        bits = np.packbits(array != 0)
        np.savez_compressed(packed, bits=bits, shape=array.shape, reader=reader)
        content = packed.getvalue()
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.npz"
        path = report.folder / REDRAWN / name
        try:
            with appearing(path) as partial, partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        except OSError as error:
            raise DataError(path, "cannot be written", "make room", error) from error
        return name

    def load_mask(self, study: str, name: str) -> np.ndarray:
        """A redrawn mask: bool (slices, rows, cols).

        Raises:
            DecisionError: there is no mask of this name.
            DataError: it is damaged.
        """
        path = self.report(study).folder / REDRAWN / name
        if not _MASK_NAME.fullmatch(name) or not path.is_file():
            raise DecisionError(f"study {study}: no redrawn mask '{name}'")
        try:
            with np.load(path) as file:
                shape = tuple(file["shape"].tolist())
                bits = np.unpackbits(file["bits"], count=int(np.prod(shape)))
        except Exception as error:  # a damaged archive can fail in many ways
            raise DataError(path, "no readable mask", "draw it again", error) from error
        return bits.reshape(shape).astype(bool)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        path = self.path / STORE
        try:
            # Transactions are started here, not by the sqlite3 module.
            connection = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
            with closing(connection):
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        except sqlite3.Error as error:
            cure = "check that it is intact, writable, and on a disk of this machine"
            raise DataError(path, "decisions cannot be kept here", cure, error) from error

    def _read(self, connection: sqlite3.Connection, study: str | None) -> list[Decision]:
        sql = f"SELECT {', '.join(_COLUMNS)}, number FROM decisions"
        sql += "" if study is None else " WHERE study = ?"
        rows = connection.execute(f"{sql} ORDER BY number", () if study is None else (study,))
        names = (*_COLUMNS, "number")
        found = [dict(zip(names, row, strict=True)) for row in rows]
        return [Decision(**{**row, "value": json.loads(row["value"])}) for row in found]


def _undone(undo: Decision, history: list[Decision]) -> Decision:
    """The decision that an undo refers to."""
    of = {each.number: each for each in history}.get(undo.value["of"])
    if of is None or of.reader != undo.reader:
        raise DecisionError(
            f"study {undo.study}: {undo.value['of']} is not a decision of {undo.reader} here"
        )
    return of


def _require_seen(decision: Decision, history: list[Decision], seen: int) -> None:
    if decision.kind not in DECIDING:
        return
    for other in in_force(history):
        same = other.lesion == decision.lesion and other.kind in DECIDING
        if same and other.number > seen and other.reader != decision.reader:
            what = "the study" if other.lesion is None else f"lesion {other.lesion}"
            raise ConflictError(
                f"study {decision.study}: {other.reader} has decided on {what} since "
                f"({other.kind}, {other.made}); load it again"
            )
