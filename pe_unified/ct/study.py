"""A CT study, read slice by slice: Hounsfield units with their position in the patient.

A whole study is in memory only on request, so memory does not grow with the length of the scan.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pe_unified.ct.grids import Turn, affine_of
from pe_unified.errors import DataError

Spacing = tuple[float | None, float | None, float | None]


@dataclass(frozen=True, eq=False)
class FileGrid:
    """The axes of a study that came as one file, so that results can be written in them.

    Attributes:
        shape: (i, j, k) of the file's array.
        affine_lps: 4 x 4, (i, j, k, 1) to LPS mm; None if the file does not give it.
        turn: brings the file's array into (slices, rows, cols).
    """

    shape: tuple[int, int, int]
    affine_lps: np.ndarray | None
    turn: Turn


@dataclass(frozen=True, eq=False)
class CTStudy:
    """A CT study, slices from feet to head.

    Rows run from front to back, columns from the patient's right to left.

    Attributes:
        source: the opened path.
        shape: (slices, rows, cols).
        spacing_mm: (row, col, slice), mm, the last along the slice normal; None entries if the
            file does not give them.
        origin_mm: LPS coordinates of the centre of the first pixel of slice 0, mm.
        direction: 3 x 3; columns are the unit vectors (LPS) along columns and rows and the upward
            normal of the slices.
        step_mm: LPS coordinates of one slice minus those of the slice below it, mm.
        z_mm: position of each slice along the normal, mm; None if unknown.
        places_mm: float64 (slices, 3), LPS coordinates of the centre of the first pixel of each
            slice, mm; None if consecutive slices differ by ``step_mm``.
        files: one per slice for DICOM, the same for all frames of a multi-frame file; otherwise
            the single file.
        read: slice index to int16 (rows, cols), Hounsfield units; can be pickled if a file was
            opened.
        frames: one per slice for DICOM, the number of the frame in its file, from 1; None if the
            file holds one slice.
        sop_uids: one per slice for DICOM; otherwise empty.
        series: names the slices for ``open_study``: the series UID, or ``UID#2`` if the series
            holds several scans; empty for a volume file.
        series_uids: of all axial CT series that were there.
        notes: in words, what was left out or is unusual; without file names, which may contain
            a patient's name.
        broken: files that should be slices but could not be read.
        grid: of a study that came as one file; None for DICOM.
        missing_slices: number of slices that are absent according to the steps.
        uneven_steps: the steps between slices differ, but none is missing.
        thickness_mm: of a slice, which may be more than the step.
        placed: whether the files give the patient's orientation; if not, the order of slices, rows
            and columns is a guess, and so is every side.
        contradictions: in words, why the slices cannot be one scan.
    """

    source: Path
    shape: tuple[int, int, int]
    spacing_mm: Spacing
    origin_mm: tuple[float, float, float]
    direction: np.ndarray
    step_mm: tuple[float, float, float]
    z_mm: tuple[float | None, ...]
    read: Callable[[int], np.ndarray] = field(repr=False)
    files: tuple[Path, ...] = ()
    frames: tuple[int | None, ...] = ()
    sop_uids: tuple[str, ...] = ()
    study_uid: str = ""
    series_uid: str = ""
    series: str = ""
    series_uids: frozenset[str] = frozenset()
    patient_id: str = ""
    notes: tuple[str, ...] = ()
    broken: tuple[DataError, ...] = ()
    grid: FileGrid | None = None
    missing_slices: int = 0
    uneven_steps: bool = False
    places_mm: np.ndarray | None = None
    thickness_mm: float | None = None
    placed: bool = True
    contradictions: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.shape[0]

    def slice_hu(self, index: int) -> np.ndarray:
        """One slice: int16 (rows, cols), Hounsfield units, at least -1024.

        Raises:
            DataError: the pixels cannot be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"slice {index} of a study of {len(self)}")
        return self.read(index)

    def all_hu(self) -> np.ndarray:
        """The whole study in memory: int16 (slices, rows, cols)."""
        return np.stack([self.slice_hu(index) for index in range(len(self))])

    def known_spacing(self) -> tuple[float, float, float]:
        """(row, col, slice), mm, with 1 mm for unknown values."""
        row, col, step = (value or 1.0 for value in self.spacing_mm)
        return row, col, step

    def affine_lps(self) -> np.ndarray:
        """4 x 4: (col, row, slice, 1) indices to LPS coordinates, mm, for evenly spaced slices."""
        return affine_of(self.known_spacing(), self.direction, self.step_mm, self.origin_mm)

    def position_mm(self, index: float, row: float, col: float) -> tuple[float, float, float]:
        """LPS coordinates, mm, of a point given in (slice, row, column) indices."""
        x, y, z = self.positions_mm(np.array([[index, row, col]], dtype=np.float64))[0]
        return float(x), float(y), float(z)

    def positions_mm(self, points: np.ndarray) -> np.ndarray:
        """LPS coordinates of points, from the true positions of the slices.

        Args:
            points: (n, 3), slice, row and column indices; slice indices may be fractional.

        Returns:
            float64 (n, 3), mm.
        """
        affine = self.affine_lps()
        if self.places_mm is None:
            return points[:, ::-1] @ affine[:3, :3].T + affine[:3, 3]
        numbers = np.arange(len(self))
        origins = [np.interp(points[:, 0], numbers, along) for along in self.places_mm.T]
        return np.stack(origins, axis=1) + points[:, :0:-1] @ affine[:3, :2].T

    @property
    def columns_to_left(self) -> int:
        """+1 if columns run to the patient's left, as in supine patients, else -1."""
        return 1 if self.direction[0, 0] >= 0 else -1

    @property
    def tilt_degrees(self) -> float:
        """Angle between the vector from slice to slice and the slice normal: the gantry's tilt."""
        step = np.asarray(self.step_mm)
        cosine = float(step @ self.direction[:, 2] / np.linalg.norm(step))
        return float(np.degrees(np.arccos(min(1.0, abs(cosine)))))
