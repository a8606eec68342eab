"""Selects the files of a folder that form the scan."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pe_unified.ct.acquisitions import by_orientation, same_scan, scans_of
from pe_unified.ct.headers import SliceHeader
from pe_unified.ct.kernels import softer
from pe_unified.ct.kinds import (
    KIND_NAMES,
    Contrast,
    Kind,
    contrast_of,
    kind_of,
    not_hounsfield,
)
from pe_unified.ct.patients import choose_study
from pe_unified.ct.stack import SAME_PLACE_MM, heights, slice_normal
from pe_unified.errors import DataError

#: Any series that covers half of this is a candidate, mm. Chests are hardly longer: a longer scan,
#: as of chest and abdomen or of the legs' veins, must not exclude the angiography.
_CHEST_MM = 400.0
#: Name of a series whose files give none.
NO_UID = "(no UID)"
#: The last acquisition of a series is taken among those with this share of the longest.
_ABOUT_AS_LONG = 0.8
#: Maximum number of rows or columns of a CT slice; a header with more is damaged.
_LARGEST_SIDE = 4096


@dataclass
class SeriesChoice:
    """The slices of the scan, and a description of what was left out.

    ``reason`` says why this series was taken, if there was a choice; ``name`` takes it again;
    ``uids`` are those of all candidates.
    """

    slices: list[SliceHeader]
    notes: list[str] = field(default_factory=list)
    reason: str = ""
    name: str = ""
    uids: frozenset[str] = frozenset()


def axial_ct(headers: Sequence[SliceHeader]) -> SeriesChoice:
    """Drop what cannot be a slice of an axial CT: scouts, other modalities, colour, units other
    than Hounsfield's, and multi-frame images without positions.

    If a header does not say what it is, the slice is kept.
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
    return not_hounsfield(header)


def choose_series(
    headers: Sequence[SliceHeader],
    where: str,
    series_uid: str | None = None,
    study: str | None = None,
) -> SeriesChoice:
    """Select the series of a folder that is the scan.

    Candidates are the axial CT series of one study that cover at least half as much as the
    longest, or 200 mm. These rules are applied in turn: slices rather than projections or virtual
    non-contrast images; not a series that says that there is no contrast agent; the original
    rather than a derived one; one that names a contrast agent; of several reconstructions of one
    scan the one with the softest kernel; the most slices. If several remain, the lowest series
    UID is taken, and the reason says so.

    Slices of one series that differ in size or orientation count as different series, and so do
    acquisitions over the same heights. Of these the later one is preferred if it is about as
    long: contrast comes after the plain scan. A repeated slice, or another slice at the same
    position, counts once.

    Args:
        headers: of all files in the folder.
        where: name of the folder in errors.
        series_uid: take this series; with ``#2`` its acquisition 2.
        study: the study to take if there are several (see
            :func:`~pe_unified.ct.patients.choose_study`).

    Raises:
        SeveralStudies: there are several studies, and none was selected.
        DataError: no axial CT slice, or the requested series or study is missing.
    """
    choice = axial_ct(headers)
    if not choice.slices:
        reason, cure = _no_ct(headers), "point to the folder of the CT angiography"
        if any(header.frames > 1 and header.modality in ("", "CT") for header in headers):
            cure = "export the series as single-frame CT images"
        if choice.notes:
            reason += f" ({'; '.join(choice.notes)})"
        raise DataError(where, reason, cure)
    named = choice.slices
    if series_uid is not None:
        groups = _groups(named)
        # Notes name a scan after its first acquisition: that name means the whole scan.
        scan = [header for key, own in groups.items() if key.name == series_uid for header in own]
        named = scan or [header for header in named if _is_named(header, series_uid)]
        if not named:
            known = ", ".join(sorted({key.name for key in groups}))
            raise DataError(where, f"no series {series_uid}", f"the series here are: {known}")
    own, notes = choose_study(named, where, study)
    groups = _groups(own)
    candidates = [_candidate(key, group) for key, group in sorted(groups.items())]
    best, why = _best(candidates)
    notes = choice.notes + notes
    notes += [
        f"left out {len(groups[other.key])} slices of series {other.key.name}, "
        f"{other.key.rows} x {other.key.cols}{_turned(other.key, best.key)}"
        for other in candidates
        if other is not best
    ]
    if best.doubles:
        notes.append(f"left out {best.doubles} duplicate slices")
    if best.lost:
        notes.append(f"left out {best.lost} slices without a position")
    if best.kind in KIND_NAMES:
        notes.append(f"the slices are {KIND_NAMES[best.kind]}")
    if why:
        key = best.key
        what = f"{len(best.slices)} axial slices of {key.rows} x {key.cols}"
        why = f"series {key.name}, of {len(candidates)}: {what}; it {why}"
    uids = frozenset(key.uid for key in groups)
    asked = series_uid if series_uid and "#" in series_uid else best.key.name
    return SeriesChoice(best.slices, notes, why, asked, uids)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A series, or a scan of one.

    Attributes:
        slices: without repeats.
        doubles: number of repeats.
        lost: number of further slices with unknown height.
        covers: mm along the slice normal; None if unknown.
    """

    key: "_SeriesKey"
    slices: list[SliceHeader]
    doubles: int
    lost: int
    covers: float | None
    kind: Kind
    contrast: Contrast

    def __len__(self) -> int:
        return len(self.slices)


def _candidate(key: "_SeriesKey", group: Sequence[SliceHeader]) -> _Candidate:
    # Two phases at the same positions: in order of number, so that one is kept whole.
    slices, doubles = drop_duplicates(_by_number(group))
    levels = heights(slices)
    placed = [header for header, level in zip(slices, levels, strict=True) if level is not None]
    lost, covers = 0, None
    if 2 * len(placed) > len(slices):
        lost, slices = len(slices) - len(placed), placed
        steps = np.diff(np.sort([level for level in levels if level is not None]))
        covers = float(np.median(steps)) * len(steps) if len(steps) else 0.0
    kind = max(map(kind_of, slices))
    contrast = min(map(contrast_of, slices))
    return _Candidate(key, slices, len(doubles), lost, covers, kind, contrast)


def _long_enough(candidates: list[_Candidate]) -> list[_Candidate]:
    known = all(each.covers is not None for each in candidates)
    lengths = [each.covers if known else len(each) for each in candidates]
    most = max(length or 0.0 for length in lengths)
    most = min(most, _CHEST_MM) if known else most
    return [each for each, n in zip(candidates, lengths, strict=True) if 2 * (n or 0.0) >= most]


def _lowest(rank: Callable[[_Candidate], int]) -> Callable[[list[_Candidate]], list[_Candidate]]:
    def keep(candidates: list[_Candidate]) -> list[_Candidate]:
        least = min(map(rank, candidates))
        return [each for each in candidates if rank(each) == least]

    return keep


def _is_softer(one: _Candidate, other: _Candidate) -> bool:
    return same_scan(one.slices, other.slices) and softer(one.slices, other.slices) < 0


def _softest(candidates: list[_Candidate]) -> list[_Candidate]:
    return [each for each in candidates if not any(_is_softer(other, each) for other in candidates)]


def _most_slices(candidates: list[_Candidate]) -> list[_Candidate]:
    """The longest, and acquisitions of the same series that are about as long."""
    most = max(map(len, candidates))
    series = {each.key[:5] for each in candidates if len(each) == most}
    return [
        each
        for each in candidates
        if len(each) == most or (each.key[:5] in series and len(each) >= _ABOUT_AS_LONG * most)
    ]


def _latest(candidates: list[_Candidate]) -> list[_Candidate]:
    last: dict[tuple, int] = {}
    for each in candidates:
        number = each.key.acquisition or 0
        last[each.key[:5]] = max(number, last.get(each.key[:5], number))
    return [each for each in candidates if (each.key.acquisition or 0) == last[each.key[:5]]]


def _says_original(best: _Candidate, _: list[_Candidate]) -> str:
    if best.kind is Kind.ORIGINAL:
        return "is original, not derived"
    return "is closer to the original than others"


def _says_softer(best: _Candidate, others: list[_Candidate]) -> str:
    sharper = [other for other in others if _is_softer(best, other)]
    if not sharper:
        return ""
    kernels = best.slices[0].kernel, sharper[0].slices[0].kernel
    named = f", {kernels[0]} for {kernels[1]}" if all(kernels) else ""
    return f"is the same scan as series {sharper[0].key.name} with a softer kernel{named}"


def _says_latest(best: _Candidate, others: list[_Candidate]) -> str:
    earlier = any(other.key[:5] == best.key[:5] for other in others)
    return "is the latest of its series' acquisitions" if earlier else ""


#: Each rule keeps the best of the remaining candidates, and can explain for the selected one why
#: others were dropped.
_RULES: tuple[
    tuple[
        Callable[[list[_Candidate]], list[_Candidate]],
        Callable[[_Candidate, list[_Candidate]], str],
    ],
    ...,
] = (
    (_lowest(lambda each: not each.kind.shows_the_scan), lambda *_: "shows the scan itself"),
    (
        _lowest(lambda each: each.contrast is Contrast.NONE),
        lambda *_: "does not say that it has no contrast agent",
    ),
    (_lowest(lambda each: each.kind), _says_original),
    (_lowest(lambda each: each.contrast), lambda *_: "names a contrast agent"),
    (_softest, _says_softer),
    (_most_slices, lambda *_: "has the most slices"),
    (_latest, _says_latest),
)


def _best(candidates: Sequence[_Candidate]) -> tuple[_Candidate, str]:
    """Select the scan from candidates in UID order; the reason is empty if there is only one."""
    left = _long_enough(list(candidates))
    told = []
    for keep, words in _RULES:
        kept = keep(left)
        told.append((words, [each for each in left if each not in kept]))
        left = kept
    best = left[0]
    why = [words(best, others) for words, others in told if others]
    reason = " and ".join(filter(None, why))
    if len(left) > 1:
        tie = f"is like series {left[1].key.name} in all that counts: the first by UID is taken"
        return best, f"{reason} and {tie}" if reason else tie
    if not reason and len(candidates) > 1:
        return best, "is by far the longest"
    return best, reason


def _no_ct(headers: Sequence[SliceHeader]) -> str:
    """Describes headers that include no axial CT slice."""
    others = {header.modality for header in headers}
    if not others or others & {"", "CT"}:
        return "no axial CT slice"
    names = " and ".join(sorted("PET" if name == "PT" else name for name in others))
    return f"{names} series, no CT"


def _by_number(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Sorted by instance number; in the given order if one is missing."""
    numbers = [header.instance_number for header in headers]
    if None in numbers:
        return list(headers)
    return sorted(headers, key=lambda header: header.instance_number or 0)


def _is_named(header: SliceHeader, series_uid: str) -> bool:
    uid, _, acquisition = series_uid.partition("#")
    return header.series_uid == uid and acquisition in ("", str(header.acquisition))


def drop_duplicates(
    headers: Sequence[SliceHeader],
) -> tuple[list[SliceHeader], list[SliceHeader]]:
    """Slices without repeats, in the given order, and the repeats.

    Two files are the same slice if they share the SOP instance UID and the position, or the series
    and the position. Files that state neither are all kept.
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
    """A position rounded to 0.01 mm, for comparing slices."""
    return tuple(round(value / SAME_PLACE_MM) for value in position)


class _SeriesKey(NamedTuple):
    """Values that the slices of one scan share."""

    uid: str
    rows: int
    cols: int
    #: Number of their orientation within the series.
    turn: int
    #: Images computed from the scan are not part of it, whatever their UID.
    kind: Kind
    #: Number of the first acquisition if the series holds several scans.
    acquisition: int | None = None

    @property
    def name(self) -> str:
        uid = self.uid or NO_UID
        return uid if self.acquisition is None else f"{uid}#{self.acquisition}"


def _turned(key: _SeriesKey, taken: _SeriesKey) -> str:
    turned = key[:3] == taken[:3] and key.turn != taken.turn
    return ", in another orientation" if turned else ""


def _groups(headers: Sequence[SliceHeader]) -> dict[_SeriesKey, list[SliceHeader]]:
    """Slices that can be one scan. A missing value does not separate slices."""
    uids = {header.series_uid for header in headers} - {""}
    silent_uid = min(uids) if len(uids) == 1 else ""
    alike: dict[_SeriesKey, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        kind = max(kind_of(header), Kind.DERIVED)  # archives mark some slices of a scan as derived
        uid = header.series_uid or silent_uid
        alike[_SeriesKey(uid, header.rows, header.cols, 0, kind)].append(header)
    apart: dict[_SeriesKey, list[SliceHeader]] = {}
    for key, group in alike.items():
        for turn, turned in enumerate(by_orientation(group)):
            scans = scans_of(turned)
            for number, scan in scans.items():
                acquisition = number if len(scans) > 1 else None
                apart[key._replace(turn=turn, acquisition=acquisition)] = scan
    return apart
