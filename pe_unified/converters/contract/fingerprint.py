"""Fingerprints that show whether slices are equal, or differ only in noise, size or HU scale."""

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np

#: Side of the image that is hashed, and of the part of its spectrum that is kept.
_SIDE, _KEPT = 32, 8
#: Range of HU that is used: air to contrast.
_SEEN_HU = (-1000, 600)
#: A slice that varies by less than this is blank, HU.
_BLANK_HU = 20.0


@dataclass(frozen=True)
class SlicePrint:
    """Fingerprint of one slice.

    Fields:
        file_name: in the set.
        digest: of its pixels.
        look: 64 bits, the signs of its low frequencies about their median, as in pHash
            (Zauner 2010, http://phash.org); -1 for a blank slice.
    """

    file_name: str
    digest: str
    look: int


def slice_print(file_name: str, hu: np.ndarray) -> SlicePrint:
    """The fingerprint of a slice, ``hu`` int16 (rows, cols)."""
    digest = hashlib.blake2b(np.ascontiguousarray(hu).tobytes(), digest_size=12)
    digest.update(str(hu.shape).encode())
    small = thumbnail(hu, _SIDE)
    if small.std() < _BLANK_HU:
        return SlicePrint(file_name, digest.hexdigest(), -1)
    low = cv2.dct(small)[:_KEPT, :_KEPT].ravel()[1:]
    bits = np.append(low > np.median(low), False)
    return SlicePrint(file_name, digest.hexdigest(), int(np.packbits(bits).view(">u8")[0]))


def thumbnail(hu: np.ndarray, side: int) -> np.ndarray:
    """A slice as a small image: float32 (side, side), HU."""
    seen = np.clip(hu, *_SEEN_HU).astype(np.float32)
    return cv2.resize(seen, (side, side), interpolation=cv2.INTER_AREA)
