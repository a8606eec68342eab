"""Contrast-filled vessels in slices, found by Hounsfield units alone."""

import cv2
import numpy as np
from numpy.typing import NDArray

#: Lung and airways are darker than this.
_AIR_HU = -500
#: Light smoothing before the threshold, pixels.
_SIGMA = 0.8


def lumen_mask(hu: NDArray[np.int16], low: float, high: float, spread: float) -> NDArray[np.bool_]:
    """Bright and even regions: the lumens of vessels and of the heart.

    Arteries, veins and aorta look alike. Bone is excluded, because it is brighter and uneven.

    Args:
        hu: (rows, cols, slices); with several slices, only pixels that are lumen in all of them.
        low, high: HU of blood with contrast medium, after smoothing.
        spread: largest standard deviation of HU in a region without its rim.

    Returns:
        (rows, cols).
    """
    bright = np.ones(hu.shape[:2], dtype=bool)
    for seen in np.moveaxis(hu, -1, 0).astype(np.float32):
        smooth = cv2.GaussianBlur(seen, (0, 0), _SIGMA)
        bright &= (smooth >= low) & (smooth <= high)
    count, regions = cv2.connectedComponents(bright.astype(np.uint8), connectivity=4)
    inner = (distance_inside(bright) > 1) & bright
    values, number = hu[inner].astype(np.float64), regions[inner]
    pixels = np.maximum(np.bincount(number, minlength=count), 1)
    even = np.bincount(number, minlength=count) > 0  # False for a region without inner pixels
    even[0] = False
    for seen in values.T:
        mean = np.bincount(number, seen, minlength=count) / pixels
        variance = np.bincount(number, (seen - mean[number]) ** 2, minlength=count) / pixels
        even &= variance <= spread**2
    return even[regions]


def among_lungs(hu: NDArray[np.int16], reach: float) -> NDArray[np.bool_]:
    """The lungs after a morphological closing, which fills gaps up to twice ``reach`` wide.

    The result includes the vessels of the lungs and their hila, but not heart, aorta and spine.

    Args:
        hu: (rows, cols, slices); with several slices, the middle one is used.
        reach: radius of the closing, pixels.
    """
    air = hu[..., hu.shape[-1] // 2] < _AIR_HU
    if not air.any():
        return air
    near = distance_to(air) <= reach
    return near if near.all() else distance_to(~near) > reach


def distance_inside(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance of every pixel of a mask to the nearest pixel outside, pixels; 1 at the rim."""
    return distance_to(np.pad(~mask, 1, constant_values=True))[1:-1, 1:-1]


def distance_to(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance of every pixel to the nearest pixel of a non-empty mask, pixels."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def narrow_parts(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """The parts of a mask in which no disc of this radius fits, in pixels."""
    cores = distance_inside(mask) > radius
    if not cores.any():
        return mask
    return mask & (distance_to(cores) > radius)


def places_for(shape: NDArray[np.bool_], room: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Positions where a shape fits into a free area: (n, 2), row and column of its first corner."""
    if any(own > given for own, given in zip(shape.shape, room.shape, strict=True)):
        return np.empty((0, 2), dtype=np.intp)
    fits = cv2.erode(
        room.astype(np.uint8),
        shape.astype(np.uint8),
        anchor=(0, 0),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return np.argwhere(fits)
