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
#: Steps may differ from the usual one by this share before the spacing counts as uneven.
_UNEVEN = 0.1
#: No CT slice has more rows or columns; a header that says so is damaged.
_LARGEST_SIDE = 4096


@dataclass
class SeriesChoice:
    """The slices of the scan, and in words what was left out.

    ``reason`` says why this series was taken, where there was a choice.
    """

    slices: list[SliceHeader]
    notes: list[str] = field(default_factory=list)
    reason: str = ""


@dataclass(frozen=True)
class Stack:
    """Slices in ascending physical order, feet to head.

    Attributes:
        slices: the headers in that order.
        z_mm: position along the slice normal, mm, per slice; None where unknown.
        spacing_mm: (row, col, slice), mm; None entries where unknown.
        origin_mm: patient coordinates (LPS) of the first pixel of the lowest slice.
        direction: 3 x 3; columns are the unit vectors along columns and rows and the upward
            normal of the slices.
        step_mm: patient coordinates (LPS) of one slice minus those of the slice below it, mm;
            with a tilted gantry it is not along the normal.
        missing: number of slices that the steps say are absent.
        uneven: whether the steps differ although no slice is missing.
    """

    slices: tuple[SliceHeader, ...]
    z_mm: tuple[float | None, ...]
    spacing_mm: tuple[float | None, float | None, float | None]
    origin_mm: tuple[float, float, float]
    direction: np.ndarray
    step_mm: tuple[float, float, float]
    missing: int = 0
    uneven: bool = False

    def notes(self) -> list[str]:
        """In words, what is odd about the stack."""
        if self.missing:
            return [f"{self.missing} slices seem to be missing: the steps between slices differ"]
        return ["the steps between slices differ"] if self.uneven else []


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
    if 0 < header.bits <= 8:
        return f"{header.bits}-bit image, too coarse for Hounsfield units"
    if max(header.rows, header.cols) > _LARGEST_SIDE:
        return f"image of {header.rows} x {header.cols} pixels"
    if header.orientation is not None and abs(_normal(header.orientation)[2]) < 0.7:
        return "slice that is not axial"
    return None


def choose_series(
    headers: Sequence[SliceHeader], where: str, series_uid: str | None = None
) -> SeriesChoice:
    """The series of a folder that is the scan.

    Of the axial CT series that are at least half as long as the longest, those that name a
    contrast agent, if any do; of these the longest; ties go to the lower series UID. Slices of
    one series that differ in size or orientation count as different series; a slice that is there
    twice, or another one at the same place, counts once.

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
        cure = "point to the folder of the CT angiography"
        if any(header.frames > 1 for header in headers):
            cure = "export the series as single-frame CT images"
        raise DataError(where, reason, cure)
    groups: dict[tuple, list[SliceHeader]] = defaultdict(list)
    for header in choice.slices:
        groups[_series_key(header)].append(header)
    if series_uid is not None:
        named = {key: group for key, group in groups.items() if key[0] == series_uid}
        if not named:
            known = ", ".join(sorted({key[0] for key in groups}))
            raise DataError(where, f"no series {series_uid}", f"the series here are: {known}")
        groups = named
    once = {key: drop_duplicates(group) for key, group in groups.items()}
    most = max(len(kept) for kept, _ in once.values())
    long = [key for key, (kept, _) in once.items() if 2 * len(kept) >= most]
    enhanced = [key for key in long if any(header.contrast for header in once[key][0])]
    best = min(enhanced or long, key=lambda key: (-len(once[key][0]), key))
    notes = choice.notes + [
        f"left out {len(group)} slices of series {key[0] or '(no UID)'}, {key[1]} x {key[2]}"
        for key, group in sorted(groups.items())
        if key != best
    ]
    kept, doubles = once[best]
    if doubles:
        notes.append(f"left out {len(doubles)} duplicate slices")
    return SeriesChoice(kept, notes, _why(best, len(kept), most, bool(enhanced), len(groups)))


def _why(key: tuple, slices: int, most: int, enhanced: bool, series: int) -> str:
    if series == 1:
        return ""
    rule = "names a contrast agent" if enhanced else "has the most slices"
    if enhanced and slices == most:
        rule += " and has the most slices"
    uid = key[0] or "(no UID)"
    return f"series {uid} of {series}: {slices} axial slices of {key[1]} x {key[2]}; it {rule}"


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
    step, missing, uneven = _steps(z_sorted)
    row, col = headers[0].pixel_spacing or (None, None)
    direction = np.column_stack([rows_to_cols[:3], rows_to_cols[3:], upward]).astype(np.float64)
    origin = slices[0].position or (0.0, 0.0, z_sorted[0] or 0.0)
    return Stack(
        slices=slices,
        z_mm=z_sorted,
        spacing_mm=(row, col, step),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=direction,
        step_mm=_step_vector(slices, upward, step),
        missing=missing,
        uneven=uneven,
    )


def _step_vector(
    slices: Sequence[SliceHeader], upward: np.ndarray, step: float | None
) -> tuple[float, float, float]:
    """From slice to slice; ``step`` is its length along the normal, mm (1 where unknown)."""
    first, last = slices[0].position, slices[-1].position
    vector = upward
    if first is not None and last is not None:
        way = np.subtract(last, first)
        along = float(np.dot(way, upward))
        if along > _SAME_PLACE_MM:
            vector = way / along
    x, y, z = (float(value) for value in vector * (step or 1.0))
    return x, y, z


def _order_key(header: SliceHeader, z: float | None) -> tuple:
    number = header.instance_number
    return (0.0 if z is None else z, 0 if number is None else number, natural_key(header.path))


def _steps(z: Sequence[float | None]) -> tuple[float | None, int, bool]:
    """The usual step between neighbouring slices, mm; how many slices are missing; uneven steps."""
    known = np.array([value for value in z if value is not None])
    steps = np.diff(known)
    steps = steps[steps > _SAME_PLACE_MM]
    if not len(steps):
        return None, 0, False
    usual = float(np.median(steps))
    gaps = steps[steps > _GAP * usual]
    uneven = bool((np.abs(steps / usual - 1) > _UNEVEN).any())
    return round(usual, 4), int(np.sum(np.rint(gaps / usual) - 1)), uneven


def _series_key(header: SliceHeader) -> tuple:
    turn = tuple(round(value, 1) + 0.0 for value in header.orientation or ())
    return (header.series_uid, header.rows, header.cols, turn)


def _normal(orientation: Sequence[float]) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])
