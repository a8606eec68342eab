"""RSNA-STR PE's train.csv and the boxes of Augmented RSPECT, streamed into a table on disk.

The csv has 1.79 million rows; only one entry per study stays in memory.
"""

import csv
import math
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pe_unified.ct.exam_labels import EXAM_LABELS
from pe_unified.errors import DataError

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_SLICE_LABEL = "pe_present_on_image"
_BOX = ("x", "y", "width", "height")
_BATCH = 20000
#: Number of problems of one kind that are listed individually.
_LISTED = 50


@dataclass(frozen=True)
class SliceRow:
    """A row of train.csv; ``label`` is 1 or 0."""

    series_uid: str
    sop_uid: str
    label: int


@dataclass(frozen=True)
class BoxRow:
    """A box of Augmented RSPECT: pixels, top-left origin."""

    sop_uid: str
    artery: str
    x: float
    y: float
    width: float
    height: float


@dataclass
class StudyCounts:
    """The counts of a study that are kept in memory.

    Attributes:
        labels: of the exam, in the order of ``EXAM_LABELS``; None if rows disagree.
    """

    labels: list[int | None]
    positives: int = 0
    negatives: int = 0
    boxes: int = 0
    problems: list[str] = field(default_factory=list)


class LabelTable:
    """All rows of the csv files, by study.

    Args:
        train_csv: the labels.
        boxes_csv: ``augmented_rspect.csv``, or None.

    Raises:
        DataError: a file cannot be read or lacks a column.
    """

    def __init__(self, train_csv: Path, boxes_csv: Path | None = None):
        self.studies: dict[str, StudyCounts] = {}
        self.problems: list[str] = []
        # With an empty name, SQLite makes a table on disk that is deleted with the connection.
        self._table = sqlite3.connect("")
        self._table.execute(
            "CREATE TABLE slices (study TEXT, series TEXT, sop TEXT, label INT, line INT)"
        )
        self._table.execute(
            "CREATE TABLE boxes (study TEXT, sop TEXT, artery TEXT, x, y, width, height, line INT)"
        )
        self._read_labels(train_csv)
        self._table.execute("CREATE INDEX slices_of_study ON slices (study, sop)")
        if boxes_csv is not None:
            self._read_boxes(boxes_csv)
        self._table.execute("CREATE INDEX boxes_of_study ON boxes (study)")

    def slices(self, study_uid: str) -> list[SliceRow]:
        """The slices of a study, without repeats, in the order of the file."""
        found: dict[str, SliceRow] = {}
        query = "SELECT series, sop, label FROM slices WHERE study = ? ORDER BY line"
        for series, sop, label in self._table.execute(query, (study_uid,)):
            found.setdefault(sop, SliceRow(series, sop, label))
        return list(found.values())

    def boxes(self, study_uid: str) -> list[BoxRow]:
        """All boxes of a study, in the order of the file."""
        query = "SELECT sop, artery, x, y, width, height FROM boxes WHERE study = ? ORDER BY line"
        return [BoxRow(*row) for row in self._table.execute(query, (study_uid,))]

    def exam_labels(self, study_uid: str) -> dict[str, int | None]:
        return dict(zip(EXAM_LABELS, self.studies[study_uid].labels, strict=True))

    def _read_labels(self, path: Path) -> None:
        names = (*_UIDS, _SLICE_LABEL, *EXAM_LABELS)
        reject = _Rejections(path, self.problems)

        def rows() -> Iterator[tuple]:
            for line, values in _stream(path, names, reject):
                labels = [_binary(value) for value in values[3:]]
                if not all(values[:3]) or None in labels:
                    reject(line, "an empty UID, or a label that is neither 0 nor 1")
                    continue
                study, series, sop = values[:3]
                self._count(study, labels[0], labels[1:], path, line)
                yield study, series, sop, labels[0], line

        insert = "INSERT INTO slices VALUES (?, ?, ?, ?, ?)"
        for batch in _batches(rows()):
            self._table.executemany(insert, batch)
        reject.close()
        if not self.studies:
            raise DataError(path, "no readable row", "download train.csv again")
        self._note_doubles(path)

    def _count(
        self, study: str, label: int | None, exam: list[int | None], path: Path, line: int
    ) -> None:
        counts = self.studies.get(study)
        if counts is None:
            counts = self.studies[study] = StudyCounts(exam)
        if label:
            counts.positives += 1
        else:
            counts.negatives += 1
        for index, (name, value) in enumerate(zip(EXAM_LABELS, exam, strict=True)):
            if counts.labels[index] is not None and counts.labels[index] != value:
                counts.labels[index] = None
                counts.problems.append(
                    f"{path.name}, line {line}: {name} differs from the study's other rows and "
                    "is taken as unknown; correct the rows"
                )

    def _note_doubles(self, path: Path) -> None:
        query = (
            "SELECT study, sop, COUNT(*), MIN(label), MAX(label), MAX(line) FROM slices "
            "GROUP BY study, sop HAVING COUNT(*) > 1 ORDER BY MAX(line)"
        )
        for study, sop, count, low, high, line in self._table.execute(query):
            differ = " with different labels, of which the first counts" if low != high else ""
            self.studies[study].problems.append(
                f"{path.name}, line {line}: slice {sop} has {count} rows{differ}; keep one"
            )
            kept = self._table.execute(
                "SELECT label FROM slices WHERE study = ? AND sop = ? ORDER BY line", (study, sop)
            ).fetchall()
            for (label,) in kept[1:]:
                if label:
                    self.studies[study].positives -= 1
                else:
                    self.studies[study].negatives -= 1

    def _read_boxes(self, path: Path) -> None:
        reject = _Rejections(path, self.problems)

        def rows() -> Iterator[tuple]:
            for line, values in _stream(path, (*_UIDS, "Artery", *_BOX), reject):
                study, _, sop, artery = values[:4]
                box = [_finite(value) for value in values[4:]]
                if not study or not sop or None in box or box[2] <= 0 or box[3] <= 0:  # type: ignore[operator]
                    reject(line, "an empty UID, or no box of positive size")
                elif study not in self.studies:
                    reject(line, f"a box of study {study}, which is not in the labels")
                else:
                    self.studies[study].boxes += 1
                    yield study, sop, artery, *box, line

        insert = "INSERT INTO boxes VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        for batch in _batches(rows()):
            self._table.executemany(insert, batch)
        reject.close()


class _Rejections:
    """Rows that cannot be used: the first ones are listed by line, the rest counted."""

    def __init__(self, path: Path, problems: list[str]):
        self._path, self._problems, self._count = path, problems, 0

    def __call__(self, line: int, reason: str) -> None:
        self._count += 1
        if self._count <= _LISTED:
            self._problems.append(
                f"{self._path.name}, line {line}: {reason}; correct or remove the row"
            )

    def close(self) -> None:
        if self._count > _LISTED:
            rest = self._count - _LISTED
            self._problems.append(f"{self._path.name}: {rest} more rows that cannot be used")


def _stream(
    path: Path, names: Iterable[str], reject: _Rejections
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the named columns of each row."""
    try:
        file = path.open(encoding="utf-8-sig", errors="replace", newline="")
    except OSError as error:
        raise DataError(path, f"cannot be opened ({error.strerror})", "check the path") from error
    with file:
        reader = csv.reader(file)
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in names if name not in header]
        if missing:
            reason = f"lacks the columns {', '.join(missing)}"
            raise DataError(path, reason, "download the file again; the first line names columns")
        columns = [header.index(name) for name in names]
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                reject(reader.line_num, f"not a csv ({error})")
                continue
            if not row:
                continue
            if len(row) != len(header):
                reject(reader.line_num, f"{len(row)} fields instead of {len(header)}")
                continue
            yield reader.line_num, [row[column].strip() for column in columns]


def _batches(rows: Iterator[tuple]) -> Iterator[list[tuple]]:
    batch: list[tuple] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def _binary(text: str) -> int | None:
    return {"0": 0, "1": 1, "0.0": 0, "1.0": 1}.get(text)


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
