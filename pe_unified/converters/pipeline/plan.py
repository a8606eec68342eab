"""The units of work: a patient is planned once, converted in chunks of slices, and finished."""

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

#: What a converter needs to find one slice again: a path, or a path and an index.
SliceSource = tuple[Any, ...]


@dataclass
class SlicePlan:
    """One slice to convert.

    Attributes:
        source: handed to the converter's ``read_slice``.
        file_name: of the PNG, without a folder.
        image: the fields of ``images[]`` that are known before reading the pixels.
        annotations: without ``id`` and ``image_id``.
        mirrored: annotations of the slice that would be paired with this one if the masks
            ran the other way, to see which way fits the pixels.
        in_grid: whether the slice is part of the grid on which lungs are sought.
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

    ``spacing_mm`` (row, col, slice) is that of the slices planned, which may be a part of
    the study. A second series of a study has no entry of its own.
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
    """All that is to be done for one patient.

    Attributes:
        patient_id: as it stands in the JSON.
        has_pe: whether its slices show embolism, for stratified splits; None where unknown.
        notes: what was left out on purpose.
        warnings: what is doubtful and may be right.
        problems: what is wrong, with the cure; any problem makes the run fail unless
            skips are allowed.
        check_hu: compare the HU under the masks with what emboli look like.
    """

    patient_id: str
    studies: list[StudyPlan]
    has_pe: bool | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    check_hu: bool = False

    def slices(self) -> Iterator[tuple[int, SlicePlan]]:
        """All slices with the number of their study."""
        for number, study in enumerate(self.studies):
            for item in study.slices:
                yield number, item


@dataclass(frozen=True)
class PatientSource:
    """Where one patient lies in the raw set.

    Attributes:
        patient_id: also names the folder of slices.
        place: what the converter's ``plan`` needs; must pickle.
        signature: changes when the patient's files change, so that it is converted again.
        problem: set where the patient can be named and not be converted.
        slices: the folder or file of its slices.
        painted: known to be no patient, but painted.
    """

    patient_id: str
    place: Any
    signature: str = ""
    problem: DataError | None = None
    slices: Path | None = None
    painted: bool = False


class Reader(Protocol):
    """The part of a converter that works on a patient. Small: it travels with every task."""

    @property
    def whole_patients(self) -> bool:
        """One bad slice spoils the patient (where masks pair with slices by position)."""

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
    """One public set, as the run sees it: its name, its facts, its patients."""

    #: As in the command's name.
    name: str
    #: The folder of raw files; paths in the report are relative to it.
    raw: Path

    @property
    def reader(self) -> Reader:
        """Goes to the workers."""

    def info(self) -> dict[str, str]:
        """``description``, ``source`` and ``licence`` of the set."""

    def options(self) -> dict[str, Any]:
        """What changes the output, for ``info`` and for recognising old records."""

    def __len__(self) -> int:
        """The number of patients."""

    def patients(self) -> Iterator[PatientSource]:
        """All patients, one after the other."""

    def problems(self) -> list[str]:
        """What is wrong beyond single patients."""


def stamp(*paths: str | os.PathLike) -> str:
    """Sizes and times of files, to notice that they changed."""
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
    """Names, sizes and times of the files under a folder, to notice that they changed.

    Links to folders in it are followed, links further down are not. Every file is asked once and
    not sorted, the largest set has 1.8 million: what they give is summed up.
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
                except OSError:  # a link to nowhere
                    continue
                count += 1
                text = f"{path[start:]}:{status.st_size}:{status.st_mtime_ns}"
                digest = blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
                total += int.from_bytes(digest)
    return f"{count}:{total % (1 << 64):x}"
