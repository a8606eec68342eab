"""A CT study in memory: Hounsfield units with their place in the patient."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pe_unified.ct.dicom import read_hu
from pe_unified.ct.errors import DataError
from pe_unified.ct.grids import open_nrrd, placement_of, read_nifti, turn_of
from pe_unified.ct.headers import read_header, scan_folder
from pe_unified.ct.hu import HU_MAX, HU_MIN
from pe_unified.ct.series import choose_series, stack_slices

_NIFTI = (".nii", ".nii.gz")
_NRRD = (".nrrd", ".nhdr")
#: CT stored without negative values carries this offset.
_OFFSET = 1024


@dataclass(frozen=True, eq=False)
class CTVolume:
    """A CT study, slices from feet to head.

    Attributes:
        hu: int16 (slices, rows, cols), Hounsfield units, at least -1024. Rows run from front
            to back, columns from the patient's right to left.
        spacing_mm: (row, col, slice), mm; None entries where the file does not say.
        origin_mm: LPS coordinates of the centre of hu[0, 0, 0], mm.
        direction: 3 x 3; columns are the unit vectors (LPS) along columns, rows and slices.
        z_mm: position of each slice along the slice normal, mm; None where unknown.
        files: one per slice for DICOM; the one file else.
        sop_uids: one per slice for DICOM; empty else.
        notes: in words, what was left out or is odd about the study.
    """

    hu: np.ndarray
    spacing_mm: tuple[float | None, float | None, float | None]
    origin_mm: tuple[float, float, float]
    direction: np.ndarray
    z_mm: tuple[float | None, ...]
    files: tuple[Path, ...] = ()
    sop_uids: tuple[str, ...] = ()
    study_uid: str = ""
    series_uid: str = ""
    patient_id: str = ""
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.hu.ndim != 3 or self.hu.dtype != np.int16:
            raise ValueError(
                f"hu is int16 (slices, rows, cols), got {self.hu.dtype} {self.hu.shape}"
            )

    def __len__(self) -> int:
        return len(self.hu)

    @property
    def shape(self) -> tuple[int, int, int]:
        slices, rows, cols = self.hu.shape
        return slices, rows, cols

    def known_spacing(self) -> tuple[float, float, float]:
        """(row, col, slice), mm, with 1 mm for what is unknown."""
        row, col, step = (value or 1.0 for value in self.spacing_mm)
        return row, col, step

    def affine_lps(self) -> np.ndarray:
        """4 x 4: (col, row, slice, 1) indices to LPS coordinates, mm."""
        row, col, step = self.known_spacing()
        affine = np.eye(4)
        affine[:3, :3] = self.direction * np.array([col, row, step])
        affine[:3, 3] = self.origin_mm
        return affine

    def position_mm(self, index: int, row: float, col: float) -> tuple[float, float, float]:
        """LPS coordinates, mm, of a point given in (slice, row, column) indices."""
        x, y, z = (self.affine_lps() @ np.array([col, row, index, 1.0]))[:3]
        return float(x), float(y), float(z)


def read_volume(path: str | os.PathLike, series_uid: str | None = None) -> CTVolume:
    """Read a study: a folder of DICOM slices, one slice, a NIfTI or a NRRD file.

    Args:
        path: folder or file.
        series_uid: of several series in a DICOM folder take this one, not the longest.

    Raises:
        DataError: nothing there, unreadable, or no axial CT.
    """
    path = Path(path)
    name = path.name.lower()
    if path.is_dir():
        return read_dicom_folder(path, series_uid)
    if not path.is_file():
        raise DataError(path, "no such file or folder", "check the path")
    if name.endswith(_NIFTI):
        array, affine = read_nifti(path)
        return _from_array(path, array, affine)
    if name.endswith(_NRRD):
        with tempfile.TemporaryDirectory(prefix="nrrd-") as scratch:
            raw, placed = open_nrrd(path, Path(scratch))
            return _from_array(path, raw.open(), placed)
    header = read_header(path)
    choice = choose_series([header], os.fspath(path))
    return _from_stack(choice.slices, choice.notes, path)


def read_dicom_folder(folder: Path, series_uid: str | None = None) -> CTVolume:
    """Read the axial CT series of a folder (see :func:`read_volume`).

    A file of the series that cannot be read is an error: a volume with a hole is no volume.
    """
    scan = scan_folder(folder)
    if scan.broken and not scan.headers:
        raise scan.broken[0]
    choice = choose_series(scan.headers, os.fspath(folder), series_uid)
    notes = list(choice.notes)
    notes += [f"left out {error}" for error in scan.broken]
    if scan.ignored:
        notes.append(f"left out {len(scan.ignored)} files that are no slices")
    return _from_stack(choice.slices, notes, folder)


def _from_stack(headers: Sequence, notes: Sequence[str], where: Path) -> CTVolume:
    stack = stack_slices(headers)
    first = stack.slices[0]
    hu = np.empty((len(stack.slices), first.rows, first.cols), dtype=np.int16)
    for index, header in enumerate(stack.slices):
        level = read_hu(header.path)
        if level.shape != hu.shape[1:]:
            reason = f"pixels {level.shape}, the rest of the series {hu.shape[1:]}"
            raise DataError(header.path, reason, "remove the slice from the series")
        hu[index] = level
    return CTVolume(
        hu=hu,
        spacing_mm=stack.spacing_mm,
        origin_mm=stack.origin_mm,
        direction=stack.direction,
        z_mm=stack.z_mm,
        files=tuple(header.path for header in stack.slices),
        sop_uids=tuple(header.sop_uid for header in stack.slices),
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        patient_id=first.patient_id,
        notes=(*notes, *stack.notes()),
    )


def _from_array(path: Path, array: np.ndarray, affine: np.ndarray | None) -> CTVolume:
    turn = turn_of(affine)
    hu, note = array_to_hu(turn.apply(array))
    notes = [note] if note else []
    if affine is None:
        notes.append("the file does not say how the volume lies; taken as DICOM stores slices")
        return CTVolume(
            hu=hu,
            spacing_mm=(None, None, None),
            origin_mm=(0.0, 0.0, 0.0),
            direction=np.eye(3),
            z_mm=(None,) * len(hu),
            files=(path,),
            notes=tuple(notes),
        )
    placed = placement_of(affine, turn, array.shape)
    normal = placed.direction[:, 2]
    start = float(np.dot(placed.origin_mm, normal))
    step = placed.spacing_mm[2]
    return CTVolume(
        hu=hu,
        spacing_mm=placed.spacing_mm,
        origin_mm=placed.origin_mm,
        direction=placed.direction,
        z_mm=tuple(round(start + step * index, 4) for index in range(len(hu))),
        files=(path,),
        notes=tuple(notes),
    )


def array_to_hu(array: np.ndarray) -> tuple[np.ndarray, str]:
    """Stored numbers of a whole volume as int16 Hounsfield units, and a note where shifted.

    CT without a single negative value was stored with an offset of 1024.
    """
    shift = volume_shift(array)
    hu = np.empty(array.shape, dtype=np.int16)
    for index, level in enumerate(array):
        hu[index] = level_to_hu(level, shift)
    note = f"no value is negative: {_OFFSET} HU subtracted" if shift else ""
    return hu, note


def volume_shift(array: np.ndarray) -> int:
    """What to add to the stored numbers of a CT volume to get Hounsfield units."""
    lowest = min(level.min() for level in array)
    return -_OFFSET if lowest >= 0 else 0


def level_to_hu(level: np.ndarray, shift: int) -> np.ndarray:
    """One slice of a stored volume: int16 (rows, cols), Hounsfield units; not a number is air."""
    if level.dtype.kind == "f":
        level = np.rint(np.nan_to_num(level, nan=HU_MIN - shift))
    return np.clip(level.astype(np.int64) + shift, HU_MIN, HU_MAX).astype(np.int16)
