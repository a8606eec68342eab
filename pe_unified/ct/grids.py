"""Geometry of a volume that comes as one file: its axes, and its position in the patient.

Arrays are in the file's own axis order (i, j, k), i fastest. :class:`Turn` converts them to the
order of this package, (slices, rows, cols) with slices ascending from feet to head, rows from
front to back and columns from the patient's right to left, as in a DICOM axial slice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel
import numpy as np


@dataclass(frozen=True)
class Turn:
    """Converts an array (i, j, k) to (slices, rows, cols).

    Attributes:
        axes: file axes that become slices, rows, cols.
        flips: whether each of them is reversed.
    """

    axes: tuple[int, int, int] = (2, 1, 0)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """A view (slices, rows, cols)."""
        turned = array.transpose(self.axes)
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def level(self, array: np.ndarray, index: int) -> np.ndarray:
        """Slice ``index`` of anything that is indexed like an array (i, j, k): (rows, cols)."""
        where: list[slice | int] = [slice(None)] * 3
        where[self.axes[0]] = self.file_slice(index, array.shape[self.axes[0]])
        level = np.asarray(array[tuple(where)])
        if self.axes[1] > self.axes[2]:
            level = level.T
        return level[self._in_slice()]

    def file_indices(
        self, slices: np.ndarray, rows: np.ndarray, cols: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices (i, j, k) in the file's array of ``shape`` of voxels (slice, row, col)."""
        along = {}
        for axis, flip, index in zip(self.axes, self.flips, (slices, rows, cols), strict=True):
            along[axis] = shape[axis] - 1 - index if flip else index
        return along[0], along[1], along[2]

    def _in_slice(self) -> tuple[slice, slice]:
        rows, cols = (slice(None, None, -1 if flip else 1) for flip in self.flips[1:])
        return rows, cols

    def file_slice(self, index: int, count: int) -> int:
        """The index of slice ``index`` along the file's slice axis."""
        return count - 1 - index if self.flips[0] else index


@dataclass(frozen=True)
class Placement:
    """Position of an array (slices, rows, cols) in the patient.

    Attributes:
        spacing_mm: (row, col, slice), mm, the last along the normal.
        origin_mm: LPS coordinates of element [0, 0, 0].
        direction: 3 x 3; columns are the unit vectors along columns and rows and the normal of
            the slices, pointing to the next slice.
        step_mm: LPS coordinates of one slice minus those of the slice before it, mm; along the
            normal unless the volume is sheared, as with a tilted gantry.
    """

    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: np.ndarray
    step_mm: tuple[float, float, float]


def turn_of(affine: np.ndarray | None) -> Turn:
    """The turn for an affine (4 x 4, file indices to LPS mm); the default turn for None."""
    if affine is None:
        return Turn()
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    # For each file axis: the world axis it follows, and its direction in LPS.
    ends = nibabel.orientations.io_orientation(ras)
    axis_of = {int(world): axis for axis, (world, _) in enumerate(ends)}
    sense = {world: ends[axis][1] * (1 if world == 2 else -1) for world, axis in axis_of.items()}
    return Turn(
        axes=(axis_of[2], axis_of[1], axis_of[0]),
        flips=(bool(sense[2] < 0), bool(sense[1] < 0), bool(sense[0] < 0)),
    )


def affine_of(
    spacing_mm: Sequence[float],
    direction: np.ndarray,
    step_mm: Sequence[float],
    origin_mm: Sequence[float],
) -> np.ndarray:
    """4 x 4, (col, row, slice, 1) to LPS mm, of an array; arguments as in :class:`Placement`."""
    affine = np.eye(4)
    affine[:3, 0] = direction[:, 0] * spacing_mm[1]
    affine[:3, 1] = direction[:, 1] * spacing_mm[0]
    affine[:3, 2] = step_mm
    affine[:3, 3] = origin_mm
    return affine


def placement_of(affine: np.ndarray, turn: Turn, shape: tuple[int, ...]) -> Placement:
    """Placement of the turned array; ``shape`` is that of the file's array (i, j, k)."""
    origin = affine[:3, 3].astype(np.float64)
    steps = []
    for axis, flip in zip(turn.axes, turn.flips, strict=True):
        step = affine[:3, axis].astype(np.float64)
        if flip:
            origin = origin + step * (shape[axis] - 1)
            step = -step
        steps.append(step)
    rows, cols = (float(np.linalg.norm(step)) for step in steps[1:])
    along_col, along_row = steps[2] / cols, steps[1] / rows
    normal = np.cross(along_col, along_row)
    normal /= np.linalg.norm(normal)
    between = float(steps[0] @ normal)
    if between < 0:
        normal, between = -normal, -between
    return Placement(
        spacing_mm=(rows, cols, between),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=np.column_stack([along_col, along_row, normal]),
        step_mm=(float(steps[0][0]), float(steps[0][1]), float(steps[0][2])),
    )


def turned_affine(affine: np.ndarray, turn: Turn, shape: tuple[int, ...]) -> np.ndarray:
    """4 x 4, (col, row, slice, 1) of a turned array to LPS mm; ``shape``: the file's (i, j, k)."""
    placed = placement_of(affine, turn, shape)
    return affine_of(placed.spacing_mm, placed.direction, placed.step_mm, placed.origin_mm)


def places(affine: np.ndarray) -> bool:
    """Whether an affine is valid: finite, and its axes neither zero nor in one plane."""
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not ((sides > 1e-4) & (sides < 1e4)).all():
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / sides)) > 0.05)
