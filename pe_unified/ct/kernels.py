"""Sharpness of reconstruction kernels: a soft kernel shows vessels, a sharp one shows noise."""

import re
from collections.abc import Sequence

import cv2
import numpy as np

from pe_unified.ct.dicom import read_hu
from pe_unified.ct.headers import SliceHeader
from pe_unified.errors import DataError

#: Sharpness from 0 to 1 of words used by GE, Philips and others, and of the letters of Philips
#: (A, B, ... for the body, L for the lung, YA to YE for detail and bone).
_SHARPNESS = {
    0.2: "SMOOTH",
    0.3: "SOFT A",
    0.4: "STANDARD STND BODY ROUTINE B",
    0.45: "CHST CHEST CB",
    0.5: "DETAIL C YA",
    0.6: "SHARP D YB",
    0.65: "LUNG L YC",
    0.7: "BONE E YD",
    0.75: "BONEPLUS VSHARP",
    0.8: "ULTRA F YE",
    0.9: "EDGE",
}
_WORDS = {word: value for value, words in _SHARPNESS.items() for word in words.split()}
#: Differences in noise up to this count as equal.
_SAME_NOISE = 0.05
#: Range of soft tissue in which noise is measured, HU, and the minimum number of its pixels.
_TISSUE, _ENOUGH = (-150.0, 250.0), 100


def kernel_sharpness(kernel: str) -> float | None:
    """Sharpness from 0 (soft) to 1 (sharp), for kernels of one scanner; None for an unknown name.

    Siemens numbers its kernels by sharpness (B30f, Br40d, I70f); so does Canon by tens, in FC01
    to FC19 for the body, and from FC30 for bone and lung.
    """
    name = kernel.upper().strip()
    if numbered := re.match(r"FC(\d\d)", name):
        number = int(numbered[1])
        return 0.5 + number / 200 if number >= 30 else 0.25 + number % 10 / 50
    if numbered := re.match(r"[A-Z]{1,2}(\d\d)(?!\d)", name):
        return int(numbered[1]) / 100
    words = re.findall(r"[A-Z]+", name)
    # Letters count only alone. Of several words the sharpest counts, as in "lung soft".
    known = [_WORDS[word] for word in words if word in _WORDS and (len(word) > 2 or word == name)]
    return max(known, default=None)


def softer(first: Sequence[SliceHeader], second: Sequence[SliceHeader]) -> int:
    """Which of two reconstructions at the same positions is softer: -1 the first, 1 the second.

    Decided by the names of their kernels, else by the noise of soft tissue in their middle
    slices; 0 if neither decides.
    """
    named = [kernel_sharpness(slices[0].kernel) for slices in (first, second)]
    if named[0] is not None and named[1] is not None and named[0] != named[1]:
        return -1 if named[0] < named[1] else 1
    noise = [_noise(slices[len(slices) // 2]) for slices in (first, second)]
    if noise[0] is None or noise[1] is None:
        return 0
    if abs(noise[0] - noise[1]) <= _SAME_NOISE * max(noise[0], noise[1]):
        return 0
    return -1 if noise[0] < noise[1] else 1


def _noise(header: SliceHeader) -> float | None:
    """Median absolute difference to a 2-pixel blur within soft tissue, HU; None if it cannot be
    measured."""
    try:
        hu = read_hu(header.path, header.frame).astype(np.float32)
    except DataError:
        return None
    smooth = cv2.GaussianBlur(hu, (0, 0), 2.0)
    tissue = (smooth > _TISSUE[0]) & (smooth < _TISSUE[1])
    if tissue.sum() < _ENOUGH:
        return None
    return float(np.median(np.abs(hu - smooth)[tissue]))
