"""Finds the lungs from Hounsfield units alone.

No learned weights are used: lungs are darker than tissue, surrounded by the body, and neither the
air around the body nor gas in airways, stomach or bowel. Everything works on a grid of about 3 mm,
so a study takes a fraction of a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from pe_unified.ct.airways import find_airways
from pe_unified.ct.body import AIR_HU, GAS_HU, Body, enclosed, find_body
from pe_unified.ct.gas import find_gas

#: Spacing of the grid on which lungs are searched, mm.
GRID_MM = 3.0
#: Minimum volume of lungs, cubic mm.
_SMALLEST_LUNG = 100e3
#: A region belongs to the lungs if it has at least this share of the largest one.
_SMALLEST_SHARE = 0.08
#: Minimum mean thickness of a lung, from front to back, side to side and upwards, mm.
_THINNEST_MM = 20.0
#: Minimum share of a lung's surroundings in its slices that is body, not table or blankets.
_WALLED = 0.8
#: The same share of all surroundings, including those outside the field of view, for regions as
#: dark as the foam under a table, HU: foam fills the space between the body and the rim.
_FOAM_HU, _WALLED_FOAM = -890, 0.6
#: Below this share of the other side, a lung counts as missing (collapsed, filled with fluid).
_ONE_SIDED = 0.15
#: Minimum pixel size of the lungs' mask, mm; maximum diameter of vessels included in the lungs, mm.
MASK_MM, VESSEL_MM = 1.5, 13.0
#: Margin around the lungs in the boxes that converted sets store and networks are cropped to, so
#: that rounding to the search grid cuts nothing off.
LUNG_MARGIN_MM = 6.0
#: Field of view assumed if the pixel size is unknown, mm.
_USUAL_FIELD_MM = 360.0

Spacing = Sequence[float | None]


@dataclass(frozen=True, eq=False)
class ChestGrid:
    """Findings on the search grid: bool (slices, rows, cols) each.

    Attributes:
        body: the body and everything it encloses.
        lungs: with their small vessels, without trachea and main bronchi; None if there are none.
        gas: outside the lungs, with the walls around it: trachea, main bronchi, stomach, bowel.
    """

    body: np.ndarray
    lungs: np.ndarray | None
    gas: np.ndarray


def lungs_of_slice(
    hu: np.ndarray, index: int, chest: ChestGrid, step: int, spacing_mm: Spacing
) -> np.ndarray:
    """The lungs on one slice, at the resolution of its pixels but not finer than :data:`MASK_MM`.

    Args:
        hu: (rows, cols), Hounsfield units.
        index: of the slice in the study.
        chest: with lungs, from :func:`find_lungs`.
        step: slices from one level of the grid to the next.
        spacing_mm: (row, col, slice) of the study, mm; None entries take usual values.

    Returns:
        bool (rows, cols).
    """
    assert chest.lungs is not None
    row_mm, col_mm, _ = _known(hu.shape, spacing_mm)
    factors = max(1, round(MASK_MM / row_mm)), max(1, round(MASK_MM / col_mm))
    fine = shrink_slice(hu, *factors)
    last = len(chest.lungs) - 1
    around = slice(min(index // step, last), min(-(-index // step), last) + 1)
    row_cells, col_cells, _ = search_grid(hu.shape, spacing_mm)
    scale = row_cells / factors[0], col_cells / factors[1]
    # One cell beyond the lungs of the grid, where the mean of a cell was tissue.
    seen = np.asarray(chest.lungs[around].any(axis=0), dtype=np.uint8)
    near = cv2.dilate(seen, np.ones((3, 3), np.uint8))
    air = _stretch(near, scale, fine.shape) & (fine < AIR_HU)
    gas = np.asarray(chest.gas[around].any(axis=0))
    air &= ~_stretch(gas, scale, fine.shape)
    diameters = [
        2 * round(VESSEL_MM / 2 / (f * mm)) + 1 for f, mm in zip(factors, (row_mm, col_mm))
    ]
    closed = _close(air, (diameters[1], diameters[0]))
    return _stretch(closed, factors, hu.shape)


def _stretch(mask: np.ndarray, factors: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """Resample a mask to smaller pixels: bool of ``shape``, which may end within the last cell."""
    rows = (np.arange(shape[0]) / factors[0]).astype(int).clip(0, mask.shape[0] - 1)
    cols = (np.arange(shape[1]) / factors[1]).astype(int).clip(0, mask.shape[1] - 1)
    return mask.astype(bool)[rows[:, None], cols]


def search_grid(shape: Sequence[int], spacing_mm: Spacing) -> tuple[int, int, int]:
    """Number of rows, columns and slices per cell of the search grid."""
    row, col, step = (max(1, round(GRID_MM / size)) for size in _known(shape, spacing_mm))
    return min(row, shape[0]), min(col, shape[1]), step


def grid_spacing(shape: Sequence[int], spacing_mm: Spacing) -> tuple[float, float, float]:
    """Spacing (row, col, slice) of the search grid, mm."""
    factors = search_grid(shape, spacing_mm)
    row, col, step = (
        factor * size for factor, size in zip(factors, _known(shape, spacing_mm), strict=True)
    )
    return row, col, step


def shrink_slice(hu: np.ndarray, row_factor: int, col_factor: int) -> np.ndarray:
    """Block means of a slice: int16 (ceil(rows / factor), ceil(cols / factor))."""
    rows, cols = hu.shape
    pad_rows, pad_cols = -rows % row_factor, -cols % col_factor
    if pad_rows or pad_cols:
        hu = np.pad(hu, ((0, pad_rows), (0, pad_cols)), mode="edge")
    size = (hu.shape[1] // col_factor, hu.shape[0] // row_factor)
    return cv2.resize(hu.astype(np.int16, copy=False), size, interpolation=cv2.INTER_AREA)


def coarse_lungs(
    coarse: np.ndarray, shape: Sequence[int], spacing_mm: Spacing, margin_mm: float = 0.0
) -> tuple[tuple[int, int, int, int], np.ndarray] | None:
    """The lungs of a study that was already resampled to the search grid.

    ``shape`` (rows, cols) and ``spacing_mm`` are those of the slices before shrinking.

    Returns:
        The box, as from :func:`box_of_lungs`, and the share of every coarse slice that is lung,
        float (slices,), 0 to 1; None if no lungs are found.
    """
    chest = find_lungs(coarse, grid_spacing(shape, spacing_mm))
    if chest.lungs is None:
        return None
    box = box_of_lungs(chest.lungs, chest.body, shape, spacing_mm, margin_mm)
    return box, chest.lungs.mean(axis=(1, 2))


def share_of_every_slice(
    shares: Sequence[float] | np.ndarray, places: Sequence[int], slices: int
) -> list[float]:
    """The lung share of every slice, 0 to 1, three digits, as stored in converted sets.

    Args:
        shares: of the slices on the search grid; interpolated between these.
        places: indices of these in the study.
        slices: number of slices of the study.
    """
    return [round(float(share), 3) for share in np.interp(np.arange(slices), places, shares)]


def box_of_lungs(
    lungs: np.ndarray,
    body: np.ndarray,
    shape: Sequence[int],
    spacing_mm: Spacing,
    margin_mm: float = 0.0,
) -> tuple[int, int, int, int]:
    """The box around both lungs over the whole study.

    Args:
        lungs, body: from :func:`find_lungs`.
        shape: (rows, cols) of the slices.
        spacing_mm: (row, col, slice) of the study, mm; None entries take usual values.
        margin_mm: added on every side, within the slice.

    Returns:
        (x, y, w, h) in pixels. If one lung is missing, its side is the mirror image of the other.
    """
    left, right = _complete_sides(lungs, body)
    top, bottom = _ends(lungs.sum(axis=(0, 2)) > 0)
    rows, cols = shape
    row_size, col_size, _ = search_grid(shape, spacing_mm)
    row_mm, col_mm, _ = _known(shape, spacing_mm)
    row_margin, col_margin = round(margin_mm / row_mm), round(margin_mm / col_mm)
    # The last cell of the grid may extend beyond the edge of the slice.
    x0 = max(0, left * col_size - col_margin)
    y0 = max(0, top * row_size - row_margin)
    x1 = min(cols, right * col_size + col_margin)
    y1 = min(rows, bottom * row_size + row_margin)
    return x0, y0, x1 - x0, y1 - y0


def find_lungs(coarse: np.ndarray, coarse_mm: Sequence[float]) -> ChestGrid:
    """Body, lungs and other gas on the search grid.

    ``coarse``: int16 (slices, rows, cols), HU; ``coarse_mm``: its spacing (row, col, slice).
    """
    body = find_body(coarse)
    cell_mm3 = float(np.prod(coarse_mm))
    gas = find_airways(coarse, body.tissue | body.dark, coarse_mm)
    gas |= find_gas(coarse, body.dark & ~gas, cell_mm3)
    pieces, count = ndimage.label(body.dark & ~gas)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:] * cell_mm3
    smallest = _SMALLEST_LUNG
    kept: list[int] = []
    for piece in 1 + np.argsort(-sizes, kind="stable"):
        if sizes[piece - 1] < smallest:
            break
        if _is_lung(coarse, pieces == piece, body, coarse_mm):
            kept.append(int(piece))
            smallest = _SMALLEST_SHARE * sizes[kept[0] - 1]
    # Vessels inside the lungs are tissue: close holes of about two cells.
    lungs = np.stack([_close(level, (5, 5)) for level in np.isin(pieces, kept)])
    inside = np.stack([enclosed(level) for level in body.tissue | lungs])
    inside &= body.tissue | body.field
    return ChestGrid(inside, lungs & inside & ~gas if kept else None, gas)


def _is_lung(coarse: np.ndarray, piece: np.ndarray, body: Body, coarse_mm: Sequence[float]) -> bool:
    """Whether a region is lung, rather than gas or something next to the body or on the table."""
    if coarse[piece].mean() < GAS_HU:
        return False
    cells = np.count_nonzero(piece)
    row_mm, col_mm, step_mm = coarse_mm
    for axis, size_mm in enumerate((step_mm, row_mm, col_mm)):
        thick_mm = cells / np.count_nonzero(piece.any(axis=axis)) * size_mm
        # The whole study may be thinner than a lung.
        if thick_mm < min(_THINNEST_MM, piece.shape[axis] * size_mm / 2):
            return False
    # A ring of two cells in each slice, also beyond the slice's edges.
    kernel = np.ones((5, 5), np.uint8)
    whole = np.pad([enclosed(level) for level in piece], ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    around = np.stack([cv2.dilate(level, kernel) > level for level in whole])
    shown = around[:, 2:-2, 2:-2] & body.field & ~body.dark
    walled = np.count_nonzero(shown & body.tissue)
    if coarse[piece].mean() < _FOAM_HU and walled < _WALLED_FOAM * np.count_nonzero(around):
        return False
    return bool(walled >= _WALLED * np.count_nonzero(shown))


def _close(level: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Close a mask with an ellipse of ``size`` (columns, rows), as if the slice had a margin."""
    if not level.any():
        return level
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size)
    room = max(size)
    padded = np.pad(level.astype(np.uint8), room)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[room:-room, room:-room]
    return closed.astype(bool)


def middle_beside_one_lung(lungs: np.ndarray, body: np.ndarray) -> float | None:
    """The column that divides the body into halves, if only one lung is found.

    None if both lungs are found, or no body around them.

    Args:
        lungs, body: bool, (levels, rows, cols).
    """
    columns = lungs.sum(axis=(0, 1))
    around = body[lungs.any(axis=(1, 2))].any(axis=(0, 1))
    if not around.any():
        return None
    body_left, body_right = _ends(np.asarray(around))
    middle = (body_left + body_right) / 2
    one, other = int(columns[: round(middle)].sum()), int(columns[round(middle) :].sum())
    return None if min(one, other) >= _ONE_SIDED * max(one, other) else middle


def _complete_sides(lungs: np.ndarray, body: np.ndarray) -> tuple[int, int]:
    """Columns from left to right (exclusive), mirrored if only one lung is found."""
    left, right = _ends(lungs.sum(axis=(0, 1)) > 0)
    middle = middle_beside_one_lung(lungs, body)
    if middle is None:
        return left, right
    first, last = min(left, 2 * middle - right), max(right, 2 * middle - left)
    return max(0, int(first)), min(lungs.shape[2], int(np.ceil(last)))


def _ends(line: np.ndarray) -> tuple[int, int]:
    """Index of the first True, and one past the last."""
    where = np.flatnonzero(line)
    return int(where[0]), int(where[-1]) + 1


def _known(shape: Sequence[int], spacing_mm: Spacing) -> tuple[float, float, float]:
    row, col, step = spacing_mm
    rows, cols = shape
    col = col or _USUAL_FIELD_MM / cols
    row = row or col or _USUAL_FIELD_MM / rows
    return float(row), float(col), float(step or GRID_MM)
