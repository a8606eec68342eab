"""Finds gas in stomach and bowel on the search grid, so that it is not mistaken for lung."""

import cv2
import numpy as np
from scipy import ndimage

from pe_unified.ct.body import AIR_HU, GAS_HU

#: Smaller pockets are ignored, because no lung is that small, cubic mm.
_SMALLEST_MM3 = 1000.0
#: Gas with a smaller share of tissue around it is part of a lung: emphysema, a bulla.
_WALLED = 0.65


def find_gas(coarse: np.ndarray, dark: np.ndarray, cell_mm3: float) -> np.ndarray:
    """Pockets of gas with their walls (cells that hold both gas and tissue): bool, as ``coarse``.

    Gas is as dark as air throughout and surrounded by tissue. Where lung is as dark, in
    emphysema, it is mostly surrounded by lung.

    Args:
        coarse: int16 (slices, rows, cols), HU.
        dark: bool, same shape: air and lung within the body.
        cell_mm3: volume of a cell.
    """
    smooth = np.stack([cv2.medianBlur(level, 3) for level in coarse])
    gas = (smooth < GAS_HU) & dark
    pockets, count = ndimage.label(gas)
    sizes = np.bincount(pockets.ravel(), minlength=count + 1)
    found = np.zeros(coarse.shape, dtype=bool)
    for number, box in enumerate(ndimage.find_objects(pockets), start=1):
        if sizes[number] * cell_mm3 < _SMALLEST_MM3:
            continue
        near = tuple(slice(max(0, side.start - 2), side.stop + 2) for side in box)
        pocket = pockets[near] == number
        wall = ndimage.binary_dilation(pocket, np.ones((3, 3, 3)))
        around = ndimage.binary_dilation(wall, np.ones((1, 3, 3))) & ~wall & ~gas[near]
        tissue = np.count_nonzero(around & (coarse[near] > AIR_HU))
        if tissue >= _WALLED * (tissue + np.count_nonzero(around & dark[near])):
            found[near] |= wall & dark[near]
    return found
