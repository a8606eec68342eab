"""Recovers Hounsfield units from the JPEG-256 edition of RSNA-STR PE.

Its red, green and blue are the slice through the lung, PE and mediastinal windows, 8 bits each. A
window that is not saturated gives the HU back, a narrow one in finer steps than a wide one
(mediastinal 1.6 HU, PE 2.7 HU, lung 5.9 HU). Not recoverable: everything below -1350 HU and above
450 HU, half a step of rounding, and the changes made by JPEG, mostly at edges.
"""

from pathlib import Path

import cv2
import numpy as np

from pe_unified.ct.windows import WINDOWS
from pe_unified.errors import DataError

#: The windows of the channels red, green, blue.
CHANNELS = ("lung", "pe", "mediastinal")
#: Grey levels this close to black or white may be saturated, because JPEG blurs the limits.
_EDGE = 4


def windows_to_hu(rgb: np.ndarray) -> np.ndarray:
    """Combine the windows.

    Args:
        rgb: uint8 (rows, cols, 3), the windows lung, PE, mediastinal.

    Returns:
        int16 (rows, cols), approximate HU between -1350 and 450, from the narrowest window
        that is not saturated.
    """
    hu = np.empty(rgb.shape[:2], dtype=np.float32)
    for channel, name in enumerate(CHANNELS):
        window = WINDOWS[name]
        level = rgb[..., channel].astype(np.float32)
        value = window.low + level * (window.width / 255)
        if channel == 0:
            hu[:] = value
            continue
        # The wider windows decide whether the narrower one can be right: near a strong edge JPEG
        # rings, and a saturated window may look unsaturated.
        step = 3 * WINDOWS[CHANNELS[0]].width / 255
        inside = (level > _EDGE) & (level < 255 - _EDGE)
        agrees = (hu > window.low - step) & (hu < window.high + step)
        hu = np.where(inside & agrees, value, hu)
    bright = (rgb[..., 1] >= 255 - _EDGE) & (rgb[..., 0] >= 255 - 3 * _EDGE)
    hu[bright] = WINDOWS["pe"].high
    return np.rint(hu).astype(np.int16)


def read_jpeg_hu(path: Path) -> np.ndarray:
    """One slice of the edition: int16 (rows, cols), approximate HU.

    Raises:
        DataError: missing, truncated, or not a colour JPEG.
    """
    data = path.read_bytes()
    if not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise DataError(path, "the JPEG is cut short", "download the file again")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DataError(path, "no readable JPEG", "download the file again")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        reason = f"{image.dtype} of shape {image.shape}, not three windows as colours"
        raise DataError(path, reason, "use the files of the JPEG-256 edition as they are")
    return windows_to_hu(image[..., ::-1])
