"""Orders slices, and determines their position in the patient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pe_unified.ct.grids import affine_of
from pe_unified.ct.headers import SliceHeader, agreed, natural_key

#: A step between slices longer than this multiple of the usual one means missing slices.
_GAP = 1.5
#: Slices closer than this, in mm, are at the same position.
SAME_PLACE_MM = 0.01
#: Maximum deviation of heights from a common line, as a share of a step.
_OFF_THE_LINE = 0.25
#: Rows from the patient's right to left, columns from front to back.
_SUPINE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
#: Maximum difference of the pixel spacing within one scan, as a share.
_SAME_SPACING = 0.01
#: Deviation from the usual step, as a share, above which the spacing counts as uneven.
_UNEVEN = 0.1


@dataclass(frozen=True)
class Stack:
    """Slices in ascending physical order, feet to head.

    Attributes:
        slices: the headers in that order.
        z_mm: position along the slice normal, mm, per slice; None if unknown.
        spacing_mm: (row, col, slice), mm; None entries if unknown.
        origin_mm: patient coordinates (LPS) of the first pixel of the lowest slice.
        direction: 3 x 3; columns are the unit vectors along columns and rows and the upward
            normal of the slices.
        step_mm: patient coordinates (LPS) of one slice minus those of the slice below it, mm;
            with a tilted gantry it is not along the normal.
        places_mm: float64 (slices, 3), patient coordinates (LPS) of the first pixel of each slice;
            None if the height of a slice is unknown.
        missing: number of slices that are absent according to the steps.
        uneven: whether the steps differ although no slice is missing.
        placed: whether the headers give the patient's orientation.
        rescale: the most frequent slope and intercept.
        contradictions: in words, why these slices cannot be one scan.
    """

    slices: tuple[SliceHeader, ...]
    z_mm: tuple[float | None, ...]
    spacing_mm: tuple[float | None, float | None, float | None]
    origin_mm: tuple[float, float, float]
    direction: np.ndarray
    step_mm: tuple[float, float, float]
    places_mm: np.ndarray | None = None
    missing: int = 0
    uneven: bool = False
    placed: bool = True
    rescale: tuple[float | None, float | None] = (None, None)
    contradictions: tuple[str, ...] = ()

    def affine_lps(self) -> np.ndarray | None:
        """4 x 4: (col, row, slice, 1) to LPS mm, for evenly spaced slices; None if the headers do
        not give the orientation."""
        row, col, step = self.spacing_mm
        if not self.placed or row is None or col is None or step is None:
            return None
        return affine_of((row, col, step), self.direction, self.step_mm, self.origin_mm)

    def notes(self) -> list[str]:
        """Descriptions of what is unusual about the stack, contradictions first."""
        notes = list(self.contradictions)
        if self.missing:
            steps = f"{self.missing} slices seem to be missing: the steps between slices differ"
            notes.append(steps)
        elif self.uneven:
            notes.append("the steps between slices differ")
        return notes


def stack_slices(headers: Sequence[SliceHeader]) -> Stack:
    """Order slices from feet to head and determine the geometry.

    The order comes from the heights of the slices (see :func:`heights`); if one has none, from
    the instance number; else from the file name. Ties keep the order of instance numbers, then
    of names.
    """
    if not headers:
        raise ValueError("a stack needs at least one slice")
    stated = agreed(headers, "orientation")
    rows_to_cols = stated or _SUPINE
    upward = _upward(rows_to_cols)
    z = heights(headers)
    if None in z:
        z = [None] * len(headers)
    order = sorted(range(len(headers)), key=lambda index: _order_key(headers[index], z[index]))
    slices = tuple(headers[index] for index in order)
    z_sorted = tuple(None if z[index] is None else round(z[index], 4) for index in order)  # type: ignore[arg-type]
    step, missing, uneven = _steps(z_sorted)
    row, col = agreed(headers, "pixel_spacing") or (None, None)
    direction = np.column_stack([rows_to_cols[:3], rows_to_cols[3:], upward]).astype(np.float64)
    rise = _rise(slices, upward)
    places = _places(slices, z_sorted, rise)
    origin = (0.0, 0.0, z_sorted[0] or 0.0) if places is None else places[0]
    x, y, up = (float(value) for value in rise * (step or 1.0))
    return Stack(
        slices=slices,
        z_mm=z_sorted,
        spacing_mm=(row, col, step),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=direction,
        step_mm=(x, y, up),
        places_mm=places,
        missing=missing,
        uneven=uneven,
        placed=stated is not None and any(h.position for h in headers),
        rescale=(agreed(headers, "slope"), agreed(headers, "intercept")),
        contradictions=tuple(_contradictions(slices, z_sorted)),
    )


def _upward(orientation: Sequence[float]) -> np.ndarray:
    normal = slice_normal(orientation)
    return -normal if normal[2] < 0 else normal


def heights(headers: Sequence[SliceHeader]) -> list[float | None]:
    """Heights of slices of one orientation along their normal, mm; None if unknown.

    A slice location may have any origin, direction and unit, and so may an instance number. If
    only some slices lack a position, those that have both give the relation. If these are not on
    a line, the locations are used for all slices.
    """
    upward = _upward(agreed(headers, "orientation") or _SUPINE)
    placed = [None if h.position is None else float(np.dot(h.position, upward)) for h in headers]
    numbers = [header.instance_number for header in headers]
    located = [header.slice_location for header in headers]
    levels = _filled(_filled(placed, located), numbers)
    if None not in levels:
        return levels
    located = _filled(located, numbers)
    if None in located and any(z is not None for z in placed):
        return levels
    known = [(s, z) for s, z in zip(located, placed, strict=True) if None not in (s, z)]
    if not known:
        return located
    places, heights = np.array(known, dtype=np.float64).T
    if np.ptp(places) <= SAME_PLACE_MM:
        return levels
    sense = -1.0 if np.polyfit(places, heights, 1)[0] < 0 else 1.0
    return [sense * location for location in located if location is not None]


def _filled(levels: list[float | None], along: Sequence[float | None]) -> list[float | None]:
    """Levels, with missing ones interpolated linearly along another quantity; unchanged if the
    known ones are not on a line."""
    known = [(a, z) for a, z in zip(along, levels, strict=True) if None not in (a, z)]
    if None not in levels or len(known) < 3:
        return levels
    places, heights = np.array(known, dtype=np.float64).T
    if min(np.ptp(places), np.ptp(heights)) <= SAME_PLACE_MM:
        return levels
    slope, start = np.polyfit(places, heights, 1)
    off = np.abs(heights - start - slope * places).max()
    if off > _OFF_THE_LINE * np.median(np.diff(np.unique(heights))):
        return levels
    return [
        float(start + slope * a) if z is None and a is not None else z
        for a, z in zip(along, levels, strict=True)
    ]


def _rise(slices: Sequence[SliceHeader], upward: np.ndarray) -> np.ndarray:
    """The vector from lower to higher slices, per mm along the normal."""
    known = [header.position for header in slices if header.position is not None]
    if not known:
        return upward
    way = np.subtract(known[-1], known[0])
    along = float(np.dot(way, upward))
    return way / along if along > SAME_PLACE_MM else upward


def _places(
    slices: Sequence[SliceHeader], z: Sequence[float | None], rise: np.ndarray
) -> np.ndarray | None:
    """LPS, mm, (slices, 3): as stated, or relative to the first slice that states it."""
    if None in z:
        return None
    heights = np.array(z, dtype=np.float64)
    first = next((k for k, header in enumerate(slices) if header.position is not None), None)
    if first is None:
        return heights[:, None] * [0.0, 0.0, 1.0]
    places = np.array(slices[first].position) + np.outer(heights - heights[first], rise)
    for index, header in enumerate(slices):
        if header.position is not None:
            places[index] = header.position
    return places


def _contradictions(slices: Sequence[SliceHeader], z: Sequence[float | None]) -> list[str]:
    found = []
    known = np.array([h.pixel_spacing for h in slices if h.pixel_spacing is not None])
    if len(known) and (np.ptp(known, axis=0) > _SAME_SPACING * known.min(axis=0)).any():
        low, high = known.min(), known.max()
        found.append(f"the distance between pixels differs, {low:.4g} to {high:.4g} mm")
    if None not in z:
        double = int((np.diff(np.array(z, dtype=np.float64)) <= SAME_PLACE_MM).sum())
        if double:
            found.append(f"{double} slices lie at the height of another one")
    return found


def _order_key(header: SliceHeader, z: float | None) -> tuple:
    number = header.instance_number
    return (0.0 if z is None else z, 0 if number is None else number, natural_key(header.path))


def _steps(z: Sequence[float | None]) -> tuple[float | None, int, bool]:
    """Usual step between neighbouring slices, mm; number of missing slices; uneven steps."""
    known = np.array([value for value in z if value is not None])
    steps = np.diff(known)
    steps = steps[steps > SAME_PLACE_MM]
    if not len(steps):
        return None, 0, False
    usual = float(np.median(steps))
    gaps = steps[steps > _GAP * usual]
    uneven = bool((np.abs(steps / usual - 1) > _UNEVEN).any())
    if not len(gaps) and not uneven:
        # Positions may be rounded: an error of half the last digit in the step adds up over a scan.
        usual = float(steps.mean())
    return round(usual, 4), int(np.sum(np.rint(gaps / usual) - 1)), uneven


def slice_normal(orientation: Sequence[float]) -> np.ndarray:
    """The normal of a slice, from the unit vectors along its rows and columns (LPS)."""
    return np.cross(orientation[:3], orientation[3:])
