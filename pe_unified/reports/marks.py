"""Marks of many studies as files that other programs read."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pe_unified.csv_files import csv_text
from pe_unified.files import write_text
from pe_unified.inference.volumes import VolumePrediction

COLUMNS = ("id", "x", "y", "z", "prob")


def write_marks(path: Path, predictions: Iterable[tuple[str, VolumePrediction]]) -> None:
    """Write ``id,x,y,z,prob``: study, LPS position in mm, and probability; best first."""
    rows = [
        dict(zip(COLUMNS, (name, *(round(float(each), 3) for each in place), _told(score))))
        for name, found in predictions
        for place, score in zip(found.positions_mm, found.scores, strict=True)
    ]
    write_text(path, csv_text(COLUMNS, rows))


def write_challenge_marks(
    path: Path, predictions: Iterable[tuple[str, Sequence[int | None], VolumePrediction]]
) -> None:
    """Write ``scan x y z confidence`` in the format of the CAD-PE challenge: pixels, from 0.

    x is the column, y the row, z the slice number in the file.

    Args:
        predictions: per scan its name, the number of every slice in the file, and what was found.
            The numbers are None if the set does not give them; slices then count from the feet.
    """
    lines = []
    for name, numbers, found in predictions:
        for point, score in zip(np.rint(found.points).astype(int), found.scores, strict=True):
            index, row, col = point.tolist()
            number = numbers[index]
            level = index if number is None else number
            lines.append(f"{name} {col} {row} {level} {_told(score)}")
    write_text(path, "".join(f"{line}\n" for line in lines))


def _told(score: float) -> float:
    return round(float(score), 6)
