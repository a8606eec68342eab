"""Decides by the HU how a mask file lies on its scan: index by index, or by the headers.

Headers can be wrong: those of READ's masks state that slices run downwards, although the arrays run
upwards like the scans. A mask saved by another program may be turned, and its header then says so.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pe_unified.converters.contract.hu_check import HuStatistics, doubts, measure
from pe_unified.ct.grids import Turn, turn_of

#: Tolerances for grids of one scan: pixel spacing, as a share; position, in pixels.
_SAME_SPACING, _SAME_PLACE = 0.01, 2.0
_AXES = ("slices", "rows", "columns")


def choose_turn(
    labels: Any,
    shape: tuple[int, int, int],
    by_index: Turn,
    scan_affine: np.ndarray | None,
    mask_affine: np.ndarray | None,
    read_slice: Callable[[int], np.ndarray],
) -> tuple[Turn | None, list[str], list[str]]:
    """The turn that places masks on the slices of their scan.

    If headers and index disagree, both are tried on the slices with masks, the index first. The
    first whose HU raise no doubt is taken.

    Args:
        labels: indexed like an array (i, j, k), above 0 in masks.
        shape: of the scan, (slices, rows, cols).
        by_index: the usual turn of this set's masks.
        scan_affine: 4 x 4, (col, row, slice, 1) of the scan to LPS mm; None if unknown.
        mask_affine: 4 x 4, (i, j, k, 1) of ``labels`` to LPS mm; None if unknown.
        read_slice: HU (rows, cols) of a slice of the scan.

    Returns:
        The turn into (slices, rows, cols), None if no turn gives the scan's shape; notes; and
        warnings, if the headers disagree and the HU do not decide.
    """
    notes, stated = [], None
    if scan_affine is not None and mask_affine is not None:
        from_mask = np.linalg.inv(scan_affine) @ mask_affine
        stated = turn_of(from_mask)
        notes = _other_grid(from_mask, stated, labels.shape, shape)
    ways = {"by index": by_index}
    if stated not in (None, by_index):
        ways["by the headers"] = stated
    ways = {
        name: turn
        for name, turn in ways.items()
        if tuple(labels.shape[axis] for axis in turn.axes) == shape
    }
    if not ways or stated is None or stated == by_index:
        return next(iter(ways.values()), None), notes, []
    said = f"the headers of scan and mask disagree on {_differences(by_index, stated)}"
    if len(ways) < 2:
        ((name, turn),) = ways.items()
        return turn, [*notes, f"{said}; paired {name}, which alone fits the shape of the scan"], []
    ours, theirs = _measure(labels, list(ways.values()), shape[0], read_slice)
    fits = {
        name: not doubts(found)
        for name, found in zip(ways, (ours.against(theirs), theirs.against(ours)), strict=True)
    }
    chosen = next((name for name, good in fits.items() if good), "by index")
    if ours.pixels and sum(fits.values()) == 1:
        return ways[chosen], [*notes, f"{said}; paired {chosen}, as the HU under the masks say"], []
    why = (
        "the mask is empty, so HU cannot decide"
        if not ours.pixels
        else "the HU under the masks fit both"
    )
    if not any(fits.values()):
        why = "the HU under the masks fit neither"
    return ways[chosen], notes, [f"{said}; paired {chosen}: {why}"]


def _measure(
    labels: Any, turns: list[Turn], count: int, read_slice: Callable[[int], np.ndarray]
) -> list[HuStatistics]:
    found = [HuStatistics() for _ in turns]
    for index in range(count):
        levels = [turn.level(labels, index) > 0 for turn in turns]
        if any(level.any() for level in levels):
            hu = read_slice(index)
            for statistics, level in zip(found, levels, strict=True):
                if level.any():
                    statistics.add(measure(hu, level.astype(np.uint8)))
    return found


def _differences(one: Turn, other: Turn) -> str:
    if one.axes != other.axes:
        return "which axes are slices, rows and columns"
    turned = [name for name, a, b in zip(_AXES, one.flips, other.flips, strict=True) if a != b]
    return f"the direction of {' and '.join(turned)}"


def _other_grid(
    from_mask: np.ndarray, turn: Turn, labels_shape: tuple[int, ...], shape: tuple[int, int, int]
) -> list[str]:
    """Differences within the slices that the headers state, although the pixel counts agree.

    ``from_mask``: (i, j, k, 1) of the mask to (col, row, slice, 1) of the scan. Along the slices
    headers are not compared, since they are often rounded.
    """
    sides = np.linalg.norm(from_mask[:3, list(turn.axes[1:])], axis=0)
    centre = from_mask @ [*((side - 1) / 2 for side in labels_shape), 1.0]
    off = np.abs(centre[:2] - [(shape[2] - 1) / 2, (shape[1] - 1) / 2]).max()
    found = []
    if (np.abs(sides - 1) > _SAME_SPACING).any():
        found.append("the distance between pixels")
    if off > _SAME_PLACE:
        found.append("the place of the slices")
    return [f"the headers of scan and mask disagree on {' and '.join(found)}"] if found else []
