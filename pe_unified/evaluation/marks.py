"""Marks: points that a system reports as emboli, each with a confidence.

They come from a file of marks, or are computed from a mask or a probability map. Two kinds of files
are supported, which must not be confused:

- a CSV with a header ``id,x,y,z,prob``: LPS millimetres, as in DICOM;
- lines ``scan x y z confidence`` without a header, as in the CAD-PE challenge
  (http://www.cad-pe.org): pixels, that is column, row and slice in the file of the scan, counted
  from 0 in the order of the file.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pe_unified.ct.overlay import EvenSlices
from pe_unified.errors import DataError
from pe_unified.evaluation.components import Lesions
from pe_unified.evaluation.intervals import FloatArray
from pe_unified.paths import require_there

#: Units of the coordinates in a file of marks.
UNITS = ("lps", "pixel")
MARK_FILES = (".csv", ".txt", ".tsv")
#: Accepted column names of a file with a header, in lower case.
_COLUMNS = {
    "id": ("id", "scan", "case", "case_id", "seriesuid"),
    "x": ("x", "coordx"),
    "y": ("y", "coordy"),
    "z": ("z", "coordz"),
    "confidence": ("prob", "probability", "confidence", "score"),
}
CONFIDENCES = _COLUMNS["confidence"]
_CURE = "write a line id,x,y,z,prob for every mark"


@dataclass(frozen=True, eq=False)
class Marks:
    """Marks of one scan.

    Attributes:
        points: float64 (marks, 3), slice, row and column indices; voxel centres are integers.
        confidences: float64 (marks,).
    """

    points: FloatArray
    confidences: FloatArray

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class FileMarks:
    """Marks of one scan as stored in a file.

    Attributes:
        places: float64 (marks, 3), x y z, in ``unit``.
        confidences: float64 (marks,); 1 if the file has none.
        unit: one of :data:`UNITS`.
        scored: whether the file has confidences.
    """

    places: FloatArray
    confidences: FloatArray
    unit: str
    scored: bool

    @classmethod
    def none(cls, unit: str = "lps", scored: bool = False) -> "FileMarks":
        return cls(np.zeros((0, 3)), np.zeros(0), unit, scored)

    def on(self, slices: EvenSlices, file_affine: NDArray) -> Marks:
        """The marks on the grid of a scan.

        Args:
            file_affine: 4 x 4, maps (i, j, k, 1) of the scan's file to LPS mm; for pixels.
        """
        places = self.places
        if self.unit == "pixel":
            places = places @ file_affine[:3, :3].T + file_affine[:3, 3]
        return Marks(slices.indices(places), self.confidences)


def read_marks(path: Path, unit: str | None = None) -> dict[str, FileMarks]:
    """Read a file of marks, or a folder with one file per scan.

    Args:
        path: a file; or a folder of files named after their scans, which may lack the column of
            scans.
        unit: unit of the coordinates; by default LPS mm with a header, pixels without.

    Returns:
        Marks by scan, with its name in the file.

    Raises:
        DataError: nothing there, the file is unreadable, a line is not a mark, or a file in a
            folder names another scan.
    """
    require_there(path)
    if not path.is_dir():
        return _read_file(path, unit)
    files = sorted(each for each in path.iterdir() if each.suffix.lower() in MARK_FILES)
    if not files:
        raise DataError(path, f"no file ends in {', '.join(MARK_FILES)}", _CURE)
    found: dict[str, FileMarks] = {}
    for file in files:
        found |= _read_file(file, unit, scan=file.stem)
    return found


def _read_file(path: Path, unit: str | None, scan: str | None = None) -> dict[str, FileMarks]:
    """Like :func:`read_marks`; lines without a scan belong to ``scan``."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, "no readable text", _CURE, error) from error
    rows = [
        (number, _cells(line))
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.startswith("#")
    ]
    columns = _header(rows[0][1]) if rows else None
    if columns is not None:
        unit, rows = unit or "lps", rows[1:]
    else:
        unit = unit or "pixel"
        named = ("id", "x", "y", "z", "confidence")
        count = len(rows[0][1]) if rows else len(named)
        columns = dict(zip(named if scan is None or count > 4 else named[1:], range(count)))
    needed = {"x", "y", "z"} if scan else {"id", "x", "y", "z"}
    if not needed <= columns.keys():
        raise DataError(path, "lacks a column of id, x, y or z", _CURE)
    by_scan: dict[str, list[list[float]]] = {scan: []} if scan else {}
    for number, cells in rows:
        try:
            name = cells[columns["id"]] if "id" in columns else str(scan)
            values = [float(cells[columns[axis]]) for axis in ("x", "y", "z")]
            values.append(float(cells[columns["confidence"]]) if "confidence" in columns else 1.0)
            if not np.isfinite(values).all():
                raise ValueError("not finite")
        except (ValueError, IndexError) as error:
            raise DataError(path, f"line {number} is not a mark", _CURE, error) from error
        if scan and name != scan:
            reason = f"line {number} names the scan '{name}', but the file is named '{scan}'"
            raise DataError(path, reason, "name each file after its scan, or leave that column out")
        by_scan.setdefault(name, []).append(values)
    arrays = {name: np.array(own, dtype=np.float64).reshape(-1, 4) for name, own in by_scan.items()}
    scored = "confidence" in columns
    return {name: FileMarks(own[:, :3], own[:, 3], unit, scored) for name, own in arrays.items()}


def _cells(line: str) -> list[str]:
    """The cells of a line, separated by commas, semicolons or blanks."""
    for sign in (",", ";"):
        if sign in line:
            return [cell.strip() for cell in next(csv.reader([line], delimiter=sign))]
    return line.split()


def _header(cells: Sequence[str]) -> dict[str, int] | None:
    """Column numbers by content; None if the line is not a header."""
    lowered = [cell.lower() for cell in cells]
    found = {
        name: lowered.index(each)
        for name, names in _COLUMNS.items()
        for each in names
        if each in lowered
    }
    return found if {"x", "y", "z"} & found.keys() else None


def marks_of(
    lesions: Lesions, spacing_mm: Sequence[float], probability: NDArray[np.floating] | None = None
) -> Marks:
    """One mark for each component of a prediction.

    Args:
        lesions: the components.
        spacing_mm: (slice, row, col).
        probability: float (slices, rows, cols) in the box of ``lesions``: the mark is the voxel
            with the highest probability, which is its confidence. Without it, the mark is the
            component's voxel nearest to its centroid, with confidence 1.
    """
    places, confidences = [], []
    for number, box in enumerate(ndimage.find_objects(lesions.labels), start=1):
        own = np.argwhere(lesions.labels[box] == number)
        if probability is None:
            away = ((own - own.mean(axis=0)) * spacing_mm) ** 2
            chosen, confidence = away.sum(axis=1).argmin(), 1.0
        else:
            values = probability[box][tuple(own.T)]
            chosen, confidence = values.argmax(), float(values.max())
        places.append(own[chosen] + [side.start for side in box] + lesions.start)
        confidences.append(confidence)
    return Marks(np.array(places, np.float64).reshape(-1, 3), np.array(confidences, np.float64))
