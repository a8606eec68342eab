"""Tables for spreadsheets, which read some cells as formulas and guess the encoding."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

#: A spreadsheet takes a text that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: Tells a spreadsheet that letters are UTF-8.
_BYTE_ORDER_MARK = "\ufeff"


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table as CSV: plain ASCII, or UTF-8 with a byte order mark where other letters occur.

    A text that a spreadsheet would run as a formula gets an apostrophe in front; numbers stay.

    Args:
        columns: of the table, in order; other fields of the rows are left out.
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
