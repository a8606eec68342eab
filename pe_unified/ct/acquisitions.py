"""Groups the slices of a series into scans, and detects reconstructions of the same scan."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from pe_unified.ct.headers import SliceHeader
from pe_unified.ct.stack import SAME_PLACE_MM, heights

#: Acquisitions that share no more than this of their heights continue each other.
_OVERLAP = 0.2
#: Minimum number of blocks in a step-and-shoot scan.
_BLOCKS = 3
#: Minimum share of positions that two reconstructions of one scan have in common, within mm.
_SAME_PLACES, _PLACE_MM = 0.9, 0.1
#: Maximum difference between the times of two reconstructions of one scan, seconds.
_SAME_TIME_S = 2.0
#: Minimum cosine of the angle between slices of one scan (2 degrees): the tilt of a gantry is
#: larger, the rounding of a header smaller.
_SAME_TURN = 0.9994


def scans_of(series: Sequence[SliceHeader]) -> dict[int, list[SliceHeader]]:
    """The scans of a series, by the number of their first acquisition, in ascending order.

    Acquisitions that continue each other are one scan; those over the same heights are not.
    Slices without a number belong to the scan between whose slices they are, slices without a
    height to the scan of their number. If most have no height, all are one scan.
    """
    known = np.array(heights(series), dtype=np.float64)  # NaN if a height is unknown
    lost = np.flatnonzero(np.isnan(known))
    numbers = {header.acquisition for header in series}
    if len(numbers) == 1 or 2 * len(lost) >= len(series):
        return {min(numbers): list(series)}
    parts: dict[int, list[int]] = defaultdict(list)
    for index in np.flatnonzero(~np.isnan(known)).tolist():
        parts[series[index].acquisition].append(index)
    silent = parts.pop(0, [])
    scans: dict[int, list[int]] = {}
    for number, part in _joined_blocks(dict(sorted(parts.items())), known).items():
        apart = (scan for scan in scans if not _same_heights(known[part], known[scans[scan]]))
        scans.setdefault(next(apart, number), []).extend(part)
    if silent:
        between = (scan for scan in scans if not _same_places(known[silent], known[scans[scan]]))
        scans.setdefault(next(between, 0), []).extend(silent)
    scan_of = {series[index].acquisition: number for number, own in scans.items() for index in own}
    for index in lost.tolist():
        scans[scan_of.get(series[index].acquisition, min(scans))].append(index)
    return {number: [series[index] for index in sorted(scans[number])] for number in sorted(scans)}


def by_orientation(headers: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    """Slices by orientation, largest group first; slices without one are added to that group."""
    stated: list[tuple[np.ndarray, list[int]]] = []
    silent: list[int] = []
    for index, header in enumerate(headers):
        if header.orientation is None:
            silent.append(index)
            continue
        turn = np.array(header.orientation).reshape(2, 3)
        turn /= np.linalg.norm(turn, axis=1, keepdims=True)
        fits = (own for known, own in stated if (known * turn).sum(axis=1).min() >= _SAME_TURN)
        own = next(fits, None)
        if own is None:
            stated.append((turn, own := []))
        own.append(index)
    parts = sorted((own for _, own in stated), key=len, reverse=True) or [[]]
    parts[0] = sorted(parts[0] + silent)
    return [[headers[index] for index in part] for part in parts]


def _joined_blocks(parts: dict[int, list[int]], known: np.ndarray) -> dict[int, list[int]]:
    """Join the blocks of a step-and-shoot scan: acquisitions of equal length that advance in one
    direction, each by at least half its length."""
    runs: list[list[int]] = []
    for number in parts:
        if runs and _moves_on([known[parts[each]] for each in (*runs[-1][-2:], number)]):
            runs[-1].append(number)
        else:
            runs.append([number])
    joined: dict[int, list[int]] = {}
    for run in runs:
        if len(run) >= _BLOCKS:
            joined[run[0]] = [index for number in run for index in parts[number]]
        else:
            joined |= {number: parts[number] for number in run}
    return joined


def _moves_on(blocks: Sequence[np.ndarray]) -> bool:
    """Whether the last of two or three blocks continues those before it."""
    if len(blocks[-1]) > len(blocks[0]) or len(blocks[-2]) != len(blocks[0]):
        return False  # only the last block of a scan may be shorter
    ends = np.array([(block.min(), block.max()) for block in blocks])
    steps = np.diff(ends, axis=0)
    # Phases over the same heights may be slightly shifted, too.
    least = max(SAME_PLACE_MM, np.ptp(ends, axis=1).max() / 2)
    return bool((steps >= least).all() or (steps <= -least).all())


def _same_heights(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether enough of the shorter one is between slices of the longer one."""
    shorter, longer = sorted((first, second), key=len)
    longer = np.unique(longer)
    steps = np.diff(longer)
    usual = float(np.median(steps[steps > SAME_PLACE_MM])) if (steps > SAME_PLACE_MM).any() else 0.0
    near = _distances(shorter, longer) <= max(0.6 * usual, SAME_PLACE_MM)
    return bool(near.mean() > _OVERLAP)


def _same_places(first: np.ndarray, second: np.ndarray) -> bool:
    return bool((_distances(first, np.unique(second)) <= SAME_PLACE_MM).mean() > _OVERLAP)


def _distances(levels: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Distance from each level to the nearest of the others, mm."""
    after = np.searchsorted(ascending, levels)
    below = np.abs(levels - ascending[np.maximum(after - 1, 0)])
    above = np.abs(levels - ascending[np.minimum(after, len(ascending) - 1)])
    return np.minimum(below, above)


def same_scan(first: Sequence[SliceHeader], second: Sequence[SliceHeader]) -> bool:
    """Whether two series are reconstructions of one acquisition with different kernels.

    At least 90% of their positions agree within 0.1 mm. If stated, they have an acquisition number
    in common, and their times differ by at most 2 s.
    """
    kernels = {slices[0].kernel for slices in (first, second)}
    if len(kernels) == 1 and kernels != {""}:
        return False
    agreed = [_agree(first, second), _same_time(first, second)]
    if False in agreed or (kernels == {""} and True not in agreed):
        return False
    levels = [heights(slices) for slices in (first, second)]
    if None in levels[0] or None in levels[1]:
        return False
    shorter, longer = sorted((np.array(each, dtype=np.float64) for each in levels), key=len)
    near = _distances(shorter, np.unique(longer)) <= _PLACE_MM
    return bool(near.sum() >= _SAME_PLACES * len(longer))


def _agree(first: Sequence[SliceHeader], second: Sequence[SliceHeader]) -> bool | None:
    """Whether their acquisition numbers agree; None if one states none."""
    numbers = [{header.acquisition for header in slices} - {0} for slices in (first, second)]
    return bool(numbers[0] & numbers[1]) if all(numbers) else None


def _same_time(first: Sequence[SliceHeader], second: Sequence[SliceHeader]) -> bool | None:
    """Whether their acquisitions began at the same time of day; None if one states no time."""
    times = [[t for t in map(_seconds, slices) if t is not None] for slices in (first, second)]
    return abs(min(times[0]) - min(times[1])) <= _SAME_TIME_S if all(times) else None


def _seconds(header: SliceHeader) -> float | None:
    """Seconds of a time written as HHMMSS.frac, with or without colons."""
    time = header.acquired.replace(":", "")
    try:
        return 3600 * int(time[:2]) + 60 * int(time[2:4]) + float(time[4:])
    except ValueError:
        return None
