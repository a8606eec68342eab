"""Which files of a folder form the scan, in which order, and where they lie in the patient."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pe_unified.ct.errors import DataError
from pe_unified.ct.headers import SliceHeader, natural_key

#: A step between slices longer than this multiple of the usual one means a missing slice.
_GAP = 1.5
#: Slices closer than this, in mm, lie at the same place.
_SAME_PLACE_MM = 0.01


@dataclass
class SeriesChoice:
    """The slices of the scan, and in words what was left out."""

    slices: list[SliceHeader]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Stack:
    """Slices in ascending physical order, feet to head.

    Attributes:
        slices: the headers in that order.
        z_mm: position along the slice normal, mm, per slice; None where unknown.
        spacing_mm: (row, col, slice), mm; None entries where unknown.
        origin_mm: patient coordinates (LPS) of the first pixel of the lowest slice.
        direction: 3 x 3; columns are the unit vectors along columns, rows and slices.
        missing: number of slices that the steps say are absent.
    """

    slices: tuple[SliceHeader, ...]
    z_mm: tuple[float | None, ...]
    spacing_mm: tuple[float | None, float | None, float | None]
    origin_mm: tuple[float, float, float]
    direction: np.ndarray
    missing: int = 0

    def notes(self) -> list[str]:
        """In words, what is odd about the stack."""
        if not self.missing:
            return []
        return [f"{self.missing} slices seem to be missing: the steps between slices differ"]


def axial_ct(headers: Sequence[SliceHeader]) -> SeriesChoice:
    """Drop what cannot be a slice of an axial CT: scouts, other modalities, colour, multi-frame.

    A header that does not say what it is gets the benefit of the doubt.
    """
    kept: list[SliceHeader] = []
    dropped: dict[str, int] = defaultdict(int)
    for header in headers:
        reason = _not_axial_ct(header)
        if reason:
            dropped[reason] += 1
        else:
            kept.append(header)
    return SeriesChoice(kept, [f"left out {count} x {why}" for why, count in dropped.items()])


def _not_axial_ct(header: SliceHeader) -> str | None:
    if header.modality and header.modality != "CT":
        return f"modality {header.modality}"
    if "LOCALIZER" in header.image_type or "SCOUT" in header.image_type:
        return "localizer"
    if header.samples > 1:
        return "colour image"
    if header.frames > 1:
        return f"multi-frame image of {header.frames} frames"
    if header.orientation is not None and abs(_normal(header.orientation)[2]) < 0.7:
        return "slice that is not axial"
    return None


def choose_series(
    headers: Sequence[SliceHeader], where: str, series_uid: str | None = None
) -> SeriesChoice:
    """The series of a folder that is the scan: the one with the most axial CT slices.

    Slices of one series that differ in size or orientation count as different series; a
    slice that is there twice counts once. Ties go to the lower series UID.

    Args:
        headers: of all files in the folder.
        where: names the folder in errors.
        series_uid: take this series instead of the longest.

    Raises:
        DataError: no axial CT slice, or not the series asked for.
    """
    choice = axial_ct(headers)
    if not choice.slices:
        reason = "no axial CT slice" + (f" ({'; '.join(choice.notes)})" if choice.notes else "")
        raise DataError(where, reason, "point to the folder of the CT angiography")
    groups: dict[tuple, list[SliceHeader]] = defaultdict(list)
    for header in choice.slices:
        groups[_series_key(header)].append(header)
    if series_uid is not None:
        named = {key: group for key, group in groups.items() if key[0] == series_uid}
        if not named:
            known = ", ".join(sorted({key[0] for key in groups}))
            raise DataError(where, f"no series {series_uid}", f"the series here are: {known}")
        groups = named
    best = min(groups, key=lambda key: (-len(groups[key]), key))
    notes = choice.notes + [
        f"left out {len(group)} slices of series {key[0] or '(no UID)'}, {key[1]} x {key[2]}"
        for key, group in sorted(groups.items())
        if key != best
    ]
    kept, doubles = drop_duplicates(groups[best])
    if doubles:
        notes.append(f"left out {len(doubles)} duplicate slices")
    return SeriesChoice(kept, notes)


def drop_duplicates(
    headers: Sequence[SliceHeader],
) -> tuple[list[SliceHeader], list[SliceHeader]]:
    """Slices once each, in the order given, and the repeats.

    Two files are the same slice when they share the SOP instance UID and the position, or
    the series and the position. Files that state neither are all kept.
    """
    kept: list[SliceHeader] = []
    repeats: list[SliceHeader] = []
    seen: set[tuple] = set()
    for header in headers:
        keys: set[tuple] = set()
        if header.sop_uid:
            keys.add(("sop", header.sop_uid, header.position, header.instance_number))
        if header.position is not None:
            place = tuple(round(value / _SAME_PLACE_MM) for value in header.position)
            keys.add(("place", header.series_uid, place))
        (repeats if keys & seen else kept).append(header)
        seen |= keys
    return kept, repeats


def stack_slices(headers: Sequence[SliceHeader]) -> Stack:
    """Order slices from feet to head and work out the geometry.

    Order comes from the position along the slice normal; where a file states none, from
    the slice location; else from the instance number; else from the file name. Ties keep
    the order of instance numbers, then of names.
    """
    if not headers:
        raise ValueError("a stack needs at least one slice")
    rows_to_cols = headers[0].orientation or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    normal = _normal(rows_to_cols)
    upward = -normal if normal[2] < 0 else normal
    z: list[float | None]
    if all(header.position is not None for header in headers):
        z = [float(np.dot(header.position, upward)) for header in headers]  # type: ignore[arg-type]
    elif all(header.slice_location is not None for header in headers):
        z = [header.slice_location for header in headers]
    else:
        z = [None] * len(headers)
    order = sorted(range(len(headers)), key=lambda index: _order_key(headers[index], z[index]))
    slices = tuple(headers[index] for index in order)
    z_sorted = tuple(None if z[index] is None else round(z[index], 4) for index in order)  # type: ignore[arg-type]
    step, missing = _steps(z_sorted)
    row, col = headers[0].pixel_spacing or (None, None)
    direction = np.column_stack([rows_to_cols[:3], rows_to_cols[3:], upward]).astype(np.float64)
    origin = slices[0].position or (0.0, 0.0, z_sorted[0] or 0.0)
    return Stack(
        slices=slices,
        z_mm=z_sorted,
        spacing_mm=(row, col, step),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=direction,
        missing=missing,
    )


def _order_key(header: SliceHeader, z: float | None) -> tuple:
    number = header.instance_number
    return (0.0 if z is None else z, 0 if number is None else number, natural_key(header.path))


def _steps(z: Sequence[float | None]) -> tuple[float | None, int]:
    """The usual step between neighbouring slices, mm, and how many slices are missing."""
    known = np.array([value for value in z if value is not None])
    steps = np.diff(known)
    steps = steps[steps > _SAME_PLACE_MM]
    if not len(steps):
        return None, 0
    usual = float(np.median(steps))
    gaps = steps[steps > _GAP * usual]
    return round(usual, 4), int(np.sum(np.rint(gaps / usual) - 1))


def _series_key(header: SliceHeader) -> tuple:
    turn = tuple(round(value, 1) + 0.0 for value in header.orientation or ())
    return (header.series_uid, header.rows, header.cols, turn)


def _normal(orientation: Sequence[float]) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])
