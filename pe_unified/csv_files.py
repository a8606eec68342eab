"""CSV tables: write them safe for spreadsheets, and read those that other programs export."""

import codecs
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_unified.errors import DataError

#: A spreadsheet reads text that begins with one of these as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: Tells a spreadsheet that the text is UTF-8.
_BYTE_ORDER_MARK = "\ufeff"


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table as CSV: plain ASCII, or UTF-8 with a byte order mark if other characters occur.

    Text that a spreadsheet would run as a formula gets an apostrophe in front; numbers do not.

    Args:
        columns: names of the columns, in order; other fields of the rows are left out.
        rows: values by column; None is an empty cell.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    text = table.getvalue()
    return text if text.isascii() else _BYTE_ORDER_MARK + text


def _cell(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    with suppress(ValueError):
        float(value)
        return value
    return f"'{value}"


@dataclass(frozen=True)
class CsvTable:
    """A table as a spreadsheet or an information system exports it.

    Attributes:
        columns: names, normalised by :func:`column_name`.
        rows: line number in the file, and text by column; empty lines are left out.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]


def column_name(text: str) -> str:
    """Normalised column name: the same for ``Study UID``, ``study-uid`` and ``study_uid``."""
    return re.sub(r"[\s_-]+", "_", text.strip().casefold())


def read_csv(path: Path) -> CsvTable:
    """Read a table whose first line names its columns.

    The separator is the comma, semicolon, tab or bar, whichever is most frequent in the first
    line. The encoding is UTF-8 with or without a byte order mark, UTF-16 with one, or else
    Windows-1252. Excel's line ``sep=;`` is skipped.

    Raises:
        DataError: unreadable, empty, two columns with one name, or a line with too many fields.
    """
    try:
        text = _decoded(path.read_bytes())
    except OSError as error:
        raise DataError(path, "cannot be read", "check the path", error) from error
    except UnicodeError as error:
        raise DataError(
            path, "cannot be read as a table", "save it as CSV (UTF-8)", error
        ) from error
    lines = text.splitlines()
    start = 1 if lines and lines[0].casefold().startswith("sep=") else 0
    if len(lines) <= start:
        raise DataError(path, "an empty table", "name the columns in its first line")
    separator = max(",;\t|", key=lines[start].count)
    reader = csv.reader(lines[start:], delimiter=separator)
    columns: tuple[str, ...] = ()
    rows = []
    try:
        for fields in reader:
            line = start + reader.line_num
            if not columns:
                columns = tuple(map(column_name, fields))
                twice = [name for name, count in Counter(columns).items() if name and count > 1]
                if twice:
                    raise DataError(path, f"two columns are named {twice[0]}", "rename one")
            elif any(field.strip() for field in fields):
                if any(field.strip() for field in fields[len(columns) :]):
                    reason = f"line {line} has {len(fields)} fields, the first line {len(columns)}"
                    raise DataError(path, reason, "put fields with separators into quotes")
                whole = [*fields, *[""] * (len(columns) - len(fields))]
                row = {name: field.strip() for name, field in zip(columns, whole) if name}
                rows.append((line, row))
    except csv.Error as error:
        raise DataError(path, "no table", "save it as CSV (UTF-8)", error) from error
    return CsvTable(path, columns, tuple(rows))


def _decoded(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def number_in(text: str) -> float:
    """A number from a table, with a decimal point or comma.

    Raises:
        ValueError: the text is not a number, or not a finite one.
    """
    value = float(text.replace(",", "."))
    if not math.isfinite(value):
        raise ValueError(text)
    return value
