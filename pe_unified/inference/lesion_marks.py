"""Marks of a volume model: points of a study with the probability of embolism."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pe_unified.ct.study import CTStudy
from pe_unified.errors import DataError
from pe_unified.evaluation.marks import read_marks as marks_by_scan


class LesionMark(NamedTuple):
    """A point that may be in an embolus.

    Attributes:
        position_mm: x, y, z, LPS coordinates, mm.
        probability: probability of embolism at the point.
    """

    position_mm: tuple[float, float, float]
    probability: float


def read_marks(path: Path) -> dict[str, list[LesionMark]]:
    """The marks in a CSV file with the columns ``id,x,y,z,prob``, by ``id``.

    Args:
        path: path of the file. ``id`` is the UID of a study or a series, the ID of a patient, or
            the name of the study's folder or file; ``x,y,z`` are LPS coordinates, mm.

    Raises:
        DataError: the file is unreadable, or has no coordinates in mm with probabilities.
    """
    found: dict[str, list[LesionMark]] = {}
    for name, marks in marks_by_scan(path).items():
        inside = (marks.confidences >= 0) & (marks.confidences <= 1)
        if marks.unit != "lps" or not marks.scored or not inside.all():
            cure = "a header and rows of id,x,y,z,prob: LPS coordinates in mm, a probability"
            raise DataError(path, "no marks in mm with probabilities", cure)
        pairs = zip(marks.places.tolist(), marks.confidences.tolist(), strict=True)
        found[name] = [LesionMark((x, y, z), probability) for (x, y, z), probability in pairs]
    return found


def marks_of(marks: Mapping[str, Sequence[LesionMark]], study: CTStudy) -> list[LesionMark]:
    """The marks of a study, under any of its names."""
    named = study.source.name
    names = (study.study_uid, study.series_uid, study.patient_id, named, named.split(".")[0])
    return [mark for name in dict.fromkeys(filter(None, names)) for mark in marks.get(name, ())]


def voxel_of(mark: LesionMark, study: CTStudy) -> tuple[int, float, float]:
    """Slice, row and column of a mark; row and column may be outside the slice."""
    starts = study.positions_mm(np.array([[k, 0, 0] for k in range(len(study))], dtype=np.float64))
    away = np.asarray(mark.position_mm) - starts
    index = int(np.abs(away @ study.direction[:, 2]).argmin())
    row_mm, col_mm, _ = study.known_spacing()
    col, row = away[index] @ study.direction[:, :2] / (col_mm, row_mm)
    return index, float(row), float(col)
