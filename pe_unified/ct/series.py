"""Which files of a folder form the scan."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pe_unified.ct.errors import DataError
from pe_unified.ct.headers import SliceHeader
from pe_unified.ct.stack import SAME_PLACE_MM, heights, slice_normal

#: Acquisitions that share less of their heights go on where the other ends.
_OVERLAP = 0.2
#: Of the acquisitions of a series the last one counts that has this share of the longest.
_ABOUT_AS_LONG = 0.8
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


def axial_ct(headers: Sequence[SliceHeader]) -> SeriesChoice:
    """Drop what cannot be a slice of an axial CT: scouts, other modalities, colour, and many frames
    of which none says where it lies.

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
    if header.orientation is not None and abs(slice_normal(header.orientation)[2]) < 0.7:
        return "slice that is not axial"
    return None


def choose_series(
    headers: Sequence[SliceHeader], where: str, series_uid: str | None = None
) -> SeriesChoice:
    """The series of a folder that is the scan.

    Of the axial CT series that are at least half as long as the longest, those that name a
    contrast agent, if any do; of these the longest; ties go to the lower series UID. Slices of
    one series that differ in size or orientation count as different series, and so do acquisitions
    over the same heights. Of these the later one goes first where it is about as long: contrast
    comes after the plain scan. A slice that is there twice, or another one at the same place,
    counts once.

    Args:
        headers: of all files in the folder.
        where: names the folder in errors.
        series_uid: take this series instead of the longest; with ``#2`` its acquisition 2.

    Raises:
        DataError: no axial CT slice, or not the series asked for.
    """
    choice = axial_ct(headers)
    if not choice.slices:
        reason, cure = _no_ct(headers), "point to the folder of the CT angiography"
        if any(header.frames > 1 and header.modality in ("", "CT") for header in headers):
            cure = "export the series as single-frame CT images"
        if choice.notes:
            reason += f" ({'; '.join(choice.notes)})"
        raise DataError(where, reason, cure)
    groups = _groups(choice.slices)
    if series_uid is not None:
        # The notes name a scan after the first of its acquisitions: that name means all of it.
        scan = [header for key, own in groups.items() if key.name == series_uid for header in own]
        named = scan or [header for header in choice.slices if _is_named(header, series_uid)]
        if not named:
            known = ", ".join(sorted({key.name for key in groups}))
            raise DataError(where, f"no series {series_uid}", f"the series here are: {known}")
        groups = _groups(named)
    # Two phases at the same places, by numbers: whatever the names of the files, one is kept whole.
    once = {key: drop_duplicates(_by_number(group)) for key, group in groups.items()}
    most = max(len(kept) for kept, _ in once.values())
    long = [key for key, (kept, _) in once.items() if 2 * len(kept) >= most]
    enhanced = [key for key in long if any(header.contrast for header in once[key][0])]
    best = _first({key: len(once[key][0]) for key in enhanced or long})
    notes = choice.notes + [
        f"left out {len(group)} slices of series {key.name}, {key.rows} x {key.cols}"
        for key, group in sorted(groups.items())
        if key != best
    ]
    kept, doubles = once[best]
    if doubles:
        notes.append(f"left out {len(doubles)} duplicate slices")
    longest = max(len(once[key][0]) for key in enhanced or long)
    why = _why(best, len(kept), most, longest, bool(enhanced), len(groups))
    return SeriesChoice(kept, notes, why)


def _no_ct(headers: Sequence[SliceHeader]) -> str:
    """What headers are of which none is an axial CT slice."""
    others = {header.modality for header in headers}
    if not others or others & {"", "CT"}:
        return "no axial CT slice"
    names = " and ".join(sorted("PET" if name == "PT" else name for name in others))
    return f"{names} series, no CT"


def _by_number(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """In the order of instance numbers; in the order given, where one has none."""
    numbers = [header.instance_number for header in headers]
    if None in numbers:
        return list(headers)
    return sorted(headers, key=lambda header: header.instance_number or 0)


def _is_named(header: SliceHeader, series_uid: str) -> bool:
    uid, _, acquisition = series_uid.partition("#")
    return header.series_uid == uid and acquisition in ("", str(header.acquisition))


def _first(lengths: dict["_SeriesKey", int]) -> "_SeriesKey":
    """The longest, or a later acquisition of its series that is about as long."""
    longest = min(lengths, key=lambda key: (-lengths[key], key))
    enough = _ABOUT_AS_LONG * lengths[longest]
    return min(
        (key for key, count in lengths.items() if key[:4] == longest[:4] and count >= enough),
        key=lambda key: -(key.acquisition or 0),
    )


def _why(
    key: "_SeriesKey", slices: int, most: int, longest: int, enhanced: bool, series: int
) -> str:
    """``most`` of all series, ``longest`` of those that could be taken."""
    if series == 1:
        return ""
    what = f"{slices} axial slices of {key.rows} x {key.cols}"
    rules = ["names a contrast agent"] if enhanced else []
    if slices == most:
        rules.append("has the most slices")
    elif slices < longest:
        rules.append("is a later acquisition, about as long as the longest")
    rule = " and ".join(rules)
    return f"series {key.name}, of {series}: {what}; it {rule}"


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
            keys.add(("place", header.series_uid, _place(header.position)))
        (repeats if keys & seen else kept).append(header)
        seen |= keys
    return kept, repeats


def _place(position: Sequence[float]) -> tuple[int, ...]:
    """The same for slices at the same place."""
    return tuple(round(value / SAME_PLACE_MM) for value in position)


class _SeriesKey(NamedTuple):
    """What slices of one scan share."""

    uid: str
    rows: int
    cols: int
    turn: tuple[float, ...]
    #: Its first acquisition where the series holds several scans.
    acquisition: int | None = None

    @property
    def name(self) -> str:
        uid = self.uid or "(no UID)"
        return uid if self.acquisition is None else f"{uid}#{self.acquisition}"


def _groups(headers: Sequence[SliceHeader]) -> dict[_SeriesKey, list[SliceHeader]]:
    groups: dict[_SeriesKey, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        turn = tuple(round(value, 1) + 0.0 for value in header.orientation or ())
        groups[_SeriesKey(header.series_uid, header.rows, header.cols, turn)].append(header)
    apart: dict[_SeriesKey, list[SliceHeader]] = {}
    for key, group in groups.items():
        scans = _scans(group)
        for number, scan in scans.items():
            apart[key._replace(acquisition=number if len(scans) > 1 else None)] = scan
    return apart


def _scans(series: Sequence[SliceHeader]) -> dict[int, list[SliceHeader]]:
    """Scans of a series, by the number of their first acquisition, in the order of these.

    Acquisitions that go on where others end are one scan; those over the same heights are not.
    """
    levels = heights(series)
    parts: dict[int, list[int]] = defaultdict(list)
    for index, header in enumerate(series):
        parts[header.acquisition].append(index)
    if len(parts) == 1 or None in levels:
        return {min(parts): list(series)}
    known = np.array(levels, dtype=np.float64)
    scans: dict[int, list[int]] = {}
    for number, part in sorted(parts.items()):
        apart = (scan for scan in scans if not _same_heights(known[part], known[scans[scan]]))
        scans.setdefault(next(apart, number), []).extend(part)
    return {number: [series[index] for index in sorted(scan)] for number, scan in scans.items()}


def _same_heights(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether much of the shorter one lies between slices of the longer one."""
    shorter, longer = sorted((first, second), key=len)
    longer = np.unique(longer)
    steps = np.diff(longer)
    usual = float(np.median(steps[steps > SAME_PLACE_MM])) if (steps > SAME_PLACE_MM).any() else 0.0
    after = np.searchsorted(longer, shorter)
    below = np.abs(shorter - longer[np.maximum(after - 1, 0)])
    above = np.abs(shorter - longer[np.minimum(after, len(longer) - 1)])
    near = np.minimum(below, above) <= max(0.6 * usual, SAME_PLACE_MM)
    return bool(near.mean() > _OVERLAP)
