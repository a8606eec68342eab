"""Finds the files of a folder that are the n slices on which a mask volume was drawn."""

from collections import defaultdict
from collections.abc import Sequence

from pe_unified.ct.headers import FolderScan, SliceHeader
from pe_unified.ct.series import axial_ct, choose_series, drop_duplicates
from pe_unified.errors import DataError


def slices_for_mask(
    scan: FolderScan, shape: tuple[int, int, int], where: str
) -> tuple[list[SliceHeader], list[str]]:
    """The slices, in the scan's order, that pair with a mask of (rows, cols, slices).

    The first of these with the right count is taken: all axial CT slices without repeats, all
    with repeats, a single series without repeats. Scouts and other modalities never count.

    Returns:
        The slices, and notes about what was left out.

    Raises:
        DataError: a file that may be a slice is unreadable, there is no axial CT slice, or no
            reading of the folder gives the mask's count and size.
    """
    if scan.broken:
        raise scan.broken[0]
    choice = axial_ct(scan.headers)
    if not choice.slices:
        # Raises an error that says what the files are.
        choose_series(scan.headers, where)
    rows, cols, count = shape
    notes = list(choice.notes)
    if scan.ignored:
        notes.append(f"left out {len(scan.ignored)} files that are no slices")
    for slices, note in _readings(choice.slices):
        if len(slices) == count:
            _check_size(slices, (rows, cols), where)
            return slices, notes + ([note] if note else [])
    unique, _ = drop_duplicates(choice.slices)
    reason = f"the mask has {count} slices, the folder {len(unique)} axial CT slices"
    if len(unique) != len(choice.slices):
        reason += f" (and {len(choice.slices) - len(unique)} duplicates)"
    raise DataError(where, reason, "complete the folder, or find the mask of this scan")


def _readings(headers: Sequence[SliceHeader]) -> list[tuple[list[SliceHeader], str]]:
    """Ways to read a folder as one stack, the most likely first, each with a note."""
    unique, repeats = drop_duplicates(headers)
    readings = [(unique, f"left out {len(repeats)} duplicate slices" if repeats else "")]
    if repeats:
        readings.append((list(headers), f"kept {len(repeats)} duplicates, as the mask does"))
    series: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        series[header.series_uid].append(header)
    if len(series) > 1:
        for uid, members in series.items():
            once, _ = drop_duplicates(members)
            rest = len(headers) - len(once)
            readings.append((once, f"took series {uid}, left out {rest} other slices"))
    return readings


def _check_size(slices: Sequence[SliceHeader], size: tuple[int, int], where: str) -> None:
    for header in slices:
        if (header.rows, header.cols) != size:
            reason = (
                f"the slice is {header.rows} x {header.cols} pixels, the mask of {where} "
                f"{size[0]} x {size[1]}"
            )
            raise DataError(header.path, reason, "find the mask of this scan")
