"""Hounsfield units on disk: 16-bit grayscale PNG, stored value = HU + 1024."""

import os
from pathlib import Path

import cv2
import numpy as np

from pe_unified.files import write_bytes

#: Added to Hounsfield units before storing, so that air (-1000 HU) stays positive.
HU_OFFSET = 1024
#: The lowest value that can be stored.
HU_MIN = -HU_OFFSET
#: The highest value that can be read back as int16.
HU_MAX = np.iinfo(np.int16).max


def encode_hu(hu: np.ndarray) -> np.ndarray:
    """Convert Hounsfield units to stored values.

    Args:
        hu: any real dtype, any shape, Hounsfield units.

    Returns:
        uint16, same shape: ``round(hu) + 1024``, clipped to what reads back as int16 HU.
    """
    if hu.dtype == np.int16:
        # Without widening; the sum wraps around into uint16.
        return np.maximum(hu, HU_MIN).view(np.uint16) + np.uint16(HU_OFFSET)
    if not np.issubdtype(hu.dtype, np.integer):
        hu = np.rint(hu)
    wide = hu.astype(np.int32, copy=False) if hu.dtype.itemsize < 4 else hu
    return (np.clip(wide, HU_MIN, HU_MAX) + HU_OFFSET).astype(np.uint16)


def decode_hu(stored: np.ndarray) -> np.ndarray:
    """Convert stored uint16 values to Hounsfield units, int16, same shape."""
    # Without widening; the difference wraps around into int16.
    return (np.minimum(stored, HU_MAX + HU_OFFSET) - np.uint16(HU_OFFSET)).view(np.int16)


def encode_slice_png(hu: np.ndarray) -> bytes:
    """Encode one slice, (rows, cols) in Hounsfield units, as a 16-bit PNG.

    OpenCV's defaults for filter and strategy are kept: on noisy CT they encode more than twice as
    fast as any explicit compression level, into fewer bytes that decode faster.
    """
    if hu.ndim != 2:
        raise ValueError(f"a slice has two axes (rows, cols), got shape {hu.shape}")
    done, data = cv2.imencode(".png", encode_hu(hu))
    if not done:
        raise ValueError(f"PNG encoding failed for a slice of shape {hu.shape}")
    return data.tobytes()


def write_slice_png(path: str | os.PathLike, hu: np.ndarray) -> None:
    """Write one slice atomically: a killed process leaves the whole file or none."""
    write_bytes(Path(path), encode_slice_png(hu))


def read_slice_png(path: str | os.PathLike) -> np.ndarray:
    """Read one stored slice: int16 (rows, cols), Hounsfield units.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a 16-bit grayscale PNG (an 8-bit one has lost the HU).
    """
    stored = cv2.imread(os.fspath(path), cv2.IMREAD_UNCHANGED)
    if stored is None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"no slice at {path}; was the data set moved?")
        raise ValueError(f"{path} cannot be decoded as an image; convert the patient again")
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise ValueError(
            f"{path} holds {stored.dtype} of shape {stored.shape}, not 16-bit grayscale; "
            "slices are written by the data converters"
        )
    return decode_hu(stored)
