"""The units of work: a patient is planned once, converted in chunks of slices, then finished."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pe_unified.converters.pipeline.raw_folders import subfolders
from pe_unified.ct.lungs import GRID_MM
from pe_unified.errors import DataError

#: What a converter needs to find a slice again: a path, or a path and an index.
SliceSource = tuple[Any, ...]


@dataclass
class SlicePlan:
    """One slice to convert.

    Attributes:
        source: passed to the converter's ``read_slice``.
        file_name: of the PNG, without a folder.
        image: the fields of ``images[]`` that are known before the pixels are read.
        annotations: without ``id`` and ``image_id``.
        mirrored: annotations that the slice would get if the masks were in reversed order, to
            check which order fits the pixels.
        in_grid: whether the slice is used in the coarse search for the lungs.
    """

    source: SliceSource
    file_name: str
    image: dict[str, Any]
    annotations: list[dict[str, Any]] = field(default_factory=list)
    mirrored: list[dict[str, Any]] = field(default_factory=list)
    in_grid: bool = False


@dataclass
class StudyPlan:
    """The slices of a study in ascending order, with its entry of ``exams[]``.

    ``spacing_mm`` (row, col, slice) is that of the planned slices, which may be a part of the
    study. A second series of a study has no separate entry.
    """

    exam: dict[str, Any] | None
    slices: list[SlicePlan]
    spacing_mm: tuple[float | None, float | None, float | None]

    def __post_init__(self) -> None:
        step = self.spacing_mm[2]
        every = max(1, round(GRID_MM / step)) if step else 1
        for index, item in enumerate(self.slices):
            item.in_grid = index % every == 0


@dataclass
class PatientPlan:
    """Everything to be done for one patient.

    Attributes:
        patient_id: as written to the JSON.
        has_pe: whether its slices show embolism, for stratified splits; None if unknown.
        notes: what was left out on purpose.
        warnings: doubtful, but may be right.
        problems: what is wrong, with the cure; any problem makes the run fail unless skips are
            allowed.
        check_hu: compare the HU under the masks with those of emboli.
    """

    patient_id: str
    studies: list[StudyPlan]
    has_pe: bool | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    check_hu: bool = False

    def slices(self) -> Iterator[tuple[int, SlicePlan]]:
        """All slices, each with the number of its study."""
        for number, study in enumerate(self.studies):
            for item in study.slices:
                yield number, item


@dataclass(frozen=True)
class PatientSource:
    """Location of one patient in the raw set.

    Attributes:
        patient_id: also names the folder of slices.
        place: what the converter's ``plan`` needs; must pickle.
        signature: changes when the patient's files change, so that it is converted again.
        problem: set if the patient is known but cannot be converted.
        slices: the folder or file of its slices.
        painted: known to be synthetic.
    """

    patient_id: str
    place: Any
    signature: str = ""
    problem: DataError | None = None
    slices: Path | None = None
    painted: bool = False


class Reader(Protocol):
    """The part of a converter that works on a patient. Small: it is sent with every task."""

    @property
    def whole_patients(self) -> bool:
        """Whether one bad slice spoils the patient (if masks pair with slices by position)."""

    def plan(self, source: PatientSource, scratch: Path) -> PatientPlan:
        """Find slices, order and labels. ``scratch`` is a folder for unpacked volumes.

        Raises:
            DataError: the patient cannot be converted.
        """

    def read_slice(self, source: SliceSource) -> np.ndarray:
        """Hounsfield units (rows, cols) of one slice.

        Raises:
            DataError: the slice cannot be read.
        """


class Converter(Protocol):
    """One public set for the run: its name, its facts, its patients."""

    #: As in the name of the command.
    name: str
    #: The folder of raw files; paths in the report are relative to it.
    raw: Path

    @property
    def reader(self) -> Reader:
        """The reader; sent to the workers."""

    def info(self) -> dict[str, str]:
        """``description``, ``source`` and ``licence`` of the set."""

    def options(self) -> dict[str, Any]:
        """Options that change the output, for ``info`` and for recognising old records."""

    def __len__(self) -> int:
        """The number of patients."""

    def patients(self) -> Iterator[PatientSource]:
        """All patients, one after the other."""

    def problems(self) -> list[str]:
        """Problems that do not concern single patients."""


def stamp(*paths: str | os.PathLike) -> str:
    """Sizes and times of files, to detect changes."""
    parts = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            parts.append("absent")
        else:
            parts.append(f"{status.st_size}:{status.st_mtime_ns}")
    return ",".join(parts)


def folder_stamp(folder: str | os.PathLike) -> str:
    """Names, sizes and times of the files under a folder, to detect changes.

    Links to folders directly in it are followed, links further down are not. Each file is queried
    once, and values are summed instead of sorted: the largest set has 1.8 million files.
    """
    root = Path(folder)
    linked = [path for path in subfolders(root) if path.is_symlink()]
    start = len(os.fspath(root))
    count = total = 0
    for top in (root, *linked):
        for parent, _, names in os.walk(top):
            for name in names:
                if name.startswith("."):
                    continue
                path = os.path.join(parent, name)
                try:
                    status = os.stat(path)
                except OSError:  # a broken link
                    continue
                count += 1
                text = f"{path[start:]}:{status.st_size}:{status.st_mtime_ns}"
                digest = blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
                total += int.from_bytes(digest)
    return f"{count}:{total % (1 << 64):x}"
