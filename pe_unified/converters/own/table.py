"""The table of studies: their files, patients and labels."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pe_unified.csv_files import CsvTable, read_csv
from pe_unified.ct.exam_labels import EXAM_LABELS
from pe_unified.ct.headers import list_files
from pe_unified.errors import DataError

#: File looked for in RAW.
STUDIES = "studies.csv"
#: Other names of columns, as used in archives.
ALIASES = {
    "study_uid": "study",
    "studyinstanceuid": "study",
    "patient_id": "patient",
    "patientid": "patient",
    "series_uid": "series",
    "seriesinstanceuid": "series",
    "pe_present": "pe",
    "sopinstanceuid": "sop",
    "sop_uid": "sop",
    "slice_index": "slice",
    "instancenumber": "instance",
    "instance_number": "instance",
    "width": "w",
    "height": "h",
}
_TEXTS = ("study", "patient", "path", "series", "mask", "placed", "boxes", "slices")
COLUMNS = (*_TEXTS, "pe", *EXAM_LABELS)
#: Separates several files in one field.
_AND = "|"
_YES = frozenset(
    (
        *("1", "1.0", "yes", "y", "true", "positive", "pos"),
        *("ja", "j", "wahr", "positiv", "oui", "vrai", "si", "sí"),
    )
)
_NO = frozenset(
    (
        *("0", "0.0", "no", "n", "false", "negative", "neg"),
        *("nein", "falsch", "negativ", "non", "faux"),
    )
)
_UNKNOWN = frozenset(("", "?", "-", "na", "n/a", "nan", "null", "none", "unknown", "unbekannt"))


@dataclass(frozen=True)
class StudyRow:
    """A line of the table; empty cells are empty here.

    Attributes:
        line: number in the file.
        path: folder, volume or archive, absolute; None if the line gives none.
        masks, boxes, slices: absolute files; None if the table has no such column.
        placed: placing of the mask, in the words of ``placing``.
        pe: 1, 0 or None.
        exam: labels by name, known ones only.
    """

    line: int
    study: str
    patient: str = ""
    path: Path | None = None
    series: str = ""
    masks: tuple[Path, ...] | None = None
    boxes: tuple[Path, ...] | None = None
    slices: tuple[Path, ...] | None = None
    placed: str = ""
    pe: int | None = None
    exam: Mapping[str, int] = field(default_factory=dict)


def read_studies(path: Path, raw: Path) -> tuple[list[StudyRow], list[str]]:
    """The lines of a table of studies, and notes on unknown columns.

    Args:
        path: the table.
        raw: base of relative paths; the folder of the table is tried, too.

    Raises:
        DataError: it is unreadable, has no column that names studies, names a study twice, or has
            a label that is neither yes nor no.
    """
    table = read_csv(path)
    named = renamed(table)
    if not {"study", "path"} & set(named.values()):
        reason = f"has neither a column study nor path, but {', '.join(table.columns)}"
        raise DataError(path, reason, "name the columns in its first line")
    rows = [_row(path, raw, line, values, named) for line, values in table.rows]
    if not rows:
        raise DataError(path, "no study in it", "write a line for each study")
    lines: dict[str, int] = {}
    for row in rows:
        first = lines.setdefault(row.study, row.line)
        if first != row.line:
            reason = f"lines {first} and {row.line} are both study '{row.study}'"
            raise DataError(path, reason, "give each study one line and a name of its own")
    unused = [name for name in table.columns if name and named[name] not in COLUMNS]
    return rows, [_unused(path.name, name) for name in unused]


def renamed(table: CsvTable) -> dict[str, str]:
    """The columns of a table under the names used here.

    Raises:
        DataError: two columns have the same meaning.
    """
    named = {name: ALIASES.get(name, name) for name in table.columns}
    for meaning in set(named.values()):
        same = [name for name in named if named[name] == meaning]
        if len(same) > 1:
            raise DataError(table.path, f"columns {' and '.join(same)} mean the same", "keep one")
    return named


def _unused(table: str, name: str) -> str:
    near = difflib.get_close_matches(name, COLUMNS, n=1)
    hint = f"; is it {near[0]}?" if near else ""
    return f"{table}: column {name} is not used{hint}"


def _row(
    path: Path, raw: Path, line: int, values: Mapping[str, str], named: Mapping[str, str]
) -> StudyRow:
    said = {named[name]: text for name, text in values.items()}
    place = next(_paths(said.get("path", ""), raw, path.parent), None)
    study = said.get("study") or (place.name if place else "")
    if not study:
        raise DataError(path, f"line {line} names no study and no path", "fill in one of them")
    files = {
        name: tuple(_paths(said[name], raw, path.parent, True)) if name in said else None
        for name in ("mask", "boxes", "slices")
    }
    labels = {}
    for name in ("pe", *EXAM_LABELS):
        try:
            labels[name] = yes_or_no(said.get(name, ""))
        except ValueError:
            reason = f"line {line}, study {study}: {name} is '{said[name]}'"
            cure = "write 1 (yes), 0 (no), or nothing where it is unknown"
            raise DataError(path, reason, cure) from None
    return StudyRow(
        line,
        study,
        said.get("patient", ""),
        place,
        said.get("series", ""),
        files["mask"],
        files["boxes"],
        files["slices"],
        said.get("placed", ""),
        labels.pop("pe"),
        {name: value for name, value in labels.items() if value is not None},
    )


def _paths(text: str, raw: Path, beside: Path, files: bool = False) -> Iterator[Path]:
    """The paths in a field; a missing one is given relative to RAW. ``files``: the files in a
    folder instead of the folder, since archives export a SEG that way."""
    for name in (part.strip() for part in text.split(_AND)):
        if name:
            parts = PurePosixPath(name.replace("\\", "/"))
            places = [raw / parts, beside / parts]
            place = next((place for place in places if place.exists()), places[0])
            yield from [place] if not files or not place.is_dir() else list_files(place)


def yes_or_no(text: str) -> int | None:
    """1, 0, or None if unknown.

    Raises:
        ValueError: the text is neither yes nor no.
    """
    word = text.strip().casefold()
    if word in _UNKNOWN:
        return None
    if word in _YES or word in _NO:
        return int(word in _YES)
    raise ValueError(text)
