"""Finds trachea and main bronchi on the search grid, so that they are not mistaken for lung."""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy import ndimage

#: Maximum mean of a grid cell that is gas without lung tissue, HU.
_GAS_HU = -900
#: Range of the cross-section of a trachea, square mm.
_SMALLEST_MM2, _LARGEST_MM2 = 40.0, 700.0
#: Maximum cross-section of both main bronchi, square mm; more is a leak into the lungs.
_LEAK_MM2 = 1000.0
#: Minimum visible length of a trachea, mm.
_SHORTEST_MM = 15.0
#: Maximum distance of a trachea from the middle of the body, mm.
_OFF_MIDDLE_MM = 45.0


def find_airways(coarse: np.ndarray, inside: np.ndarray, coarse_mm: Sequence[float]) -> np.ndarray:
    """Trachea and main bronchi with their walls; empty if no trachea is found.

    A trachea is a small round region of gas in the middle of the body that continues from slice to
    slice. From there the gas is followed downwards until it would spread into the lungs.

    Args:
        coarse: int16 (slices, rows, cols), HU, slices from feet to head.
        inside: bool, same shape, the filled body.
        coarse_mm: spacing (row, col, slice), mm.

    Returns:
        bool, same shape.
    """
    found = np.zeros(coarse.shape, dtype=bool)
    gas = (coarse < _GAS_HU) & inside
    trachea = _trachea(gas, inside, coarse_mm)
    if trachea is None:
        return found
    found |= trachea
    cell_mm2 = coarse_mm[0] * coarse_mm[1]
    reach = np.ones((5, 5), np.uint8)
    first = int(np.flatnonzero(trachea.any(axis=(1, 2)))[-1])
    for level in range(first - 1, -1, -1):
        near = cv2.dilate(found[level + 1].astype(np.uint8), reach) > 0
        grown = (gas[level] & near) | trachea[level]
        if not grown.any() or grown.sum() * cell_mm2 > _LEAK_MM2:
            found[: level + 1] = False
            break
        found[level] = grown
    wall = np.ones((3, 3), np.uint8)
    return np.stack([cv2.dilate(level.astype(np.uint8), wall) > 0 for level in found])


def _trachea(gas: np.ndarray, inside: np.ndarray, coarse_mm: Sequence[float]) -> np.ndarray | None:
    """The longest stack of small round regions of gas in the middle, or None."""
    row_mm, col_mm, step_mm = coarse_mm
    columns = np.flatnonzero(inside.any(axis=(0, 1)))
    if not len(columns):
        return None
    middle = (columns[0] + columns[-1]) / 2
    pieces = np.zeros(gas.shape, dtype=bool)
    for level, plane in enumerate(gas):
        count, parts, stats, centres = cv2.connectedComponentsWithStats(
            plane.astype(np.uint8), connectivity=4
        )
        for part in range(1, count):
            width, height, cells = (int(each) for each in stats[part, 2:5])
            area = cells * row_mm * col_mm
            round_enough = cells > 0.5 * width * height
            square_enough = 0.4 < (width * col_mm) / (height * row_mm) < 2.5
            central = abs(centres[part][0] - middle) * col_mm < _OFF_MIDDLE_MM
            if _SMALLEST_MM2 <= area <= _LARGEST_MM2 and round_enough and square_enough and central:
                pieces[level] |= parts == part
    labels, count = ndimage.label(pieces)
    if not count:
        return None
    lengths = np.array([box[0].stop - box[0].start for box in ndimage.find_objects(labels)])
    # If several are equally long, take the upper one: stomach and bowel are low. Labels go upwards.
    longest = int(np.flatnonzero(lengths == lengths.max())[-1]) + 1
    return labels == longest if lengths.max() * step_mm >= _SHORTEST_MM else None
