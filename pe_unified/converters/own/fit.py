"""Checks by the Hounsfield units whether a mask or one of its mirror images lies on emboli."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pe_unified.converters.contract.hu_check import REVERSED_GAIN, HuStatistics, doubts, measure
from pe_unified.converters.own.placing import MIRROR_IMAGES, MIRRORED, Placing
from pe_unified.ct.study import CTStudy

_UP_DOWN = MIRRORED.index("up-down")


@dataclass(frozen=True)
class Fit:
    """Result of the check of a mask.

    Attributes:
        reasons: why its position is wrong; empty if it can be right.
        better: the mirror image that fits, if this mask does not; None if none does.
    """

    reasons: tuple[str, ...] = ()
    better: Placing | None = None


def fit_of(values: np.ndarray, study: CTStudy) -> Fit:
    """Check a mask and its mirror images.

    ``tools/check_findings.py --masks`` measures how often this detects mirrored masks of synthetic
    studies.

    Args:
        values: (slices, rows, cols), above 0 in emboli.
        study: its study; each slice with the mask or a mirror image is read once.
    """
    levels = np.flatnonzero(values.any(axis=(1, 2)))
    if not len(levels):
        return Fit()
    found = {image: HuStatistics() for image in MIRROR_IMAGES}
    last = len(values) - 1
    for index in sorted({*levels.tolist(), *(last - levels).tolist()}):
        hu = study.slice_hu(index)
        for image, statistics in found.items():
            level = values[last - index if image.flips[_UP_DOWN] else index]
            if level.any():
                _, rows, cols = (slice(None, None, -1 if flip else 1) for flip in image.flips)
                statistics.add(measure(hu, (level[rows, cols] > 0).astype(np.uint8)))
    as_laid = found[Placing()]
    reasons = _doubts_of(found, Placing())
    good = [image for image in MIRROR_IMAGES[1:] if not _doubts_of(found, image)]
    best = max(good, key=lambda image: found[image].share, default=None)
    gain = REVERSED_GAIN + 1 / np.sqrt(as_laid.pixels)  # two standard errors of a share
    if best is not None and not reasons and found[best].share > as_laid.share + gain:
        ours, theirs = as_laid.share, found[best].share
        reasons = [f"{theirs:.0%} of its mirror image look like emboli, {ours:.0%} of itself"]
    return Fit(tuple(reasons), best) if reasons else Fit()


def _doubts_of(found: Mapping[Placing, HuStatistics], image: Placing) -> list[str]:
    """Doubts about one image, compared with the one whose slices are reversed."""
    up, front, left = image.flips
    return doubts(found[image].against(found[Placing(flips=(not up, front, left))]))
