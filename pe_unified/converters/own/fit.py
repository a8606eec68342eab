"""Does a mask lie on emboli, and if not, would it as a mirror image? The Hounsfield units tell."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pe_unified.converters.contract.hu_check import HuStatistics, doubts, measure
from pe_unified.converters.own.placing import MIRROR_IMAGES, MIRRORED, Placing
from pe_unified.ct.study import CTStudy

_UP_DOWN = MIRRORED.index("up-down")


@dataclass(frozen=True)
class Fit:
    """What the HU say of a mask as it was laid.

    Attributes:
        reasons: why it cannot lie so; none where it can.
        better: the mirror image that would lie well, where this one does not; None for none.
    """

    reasons: tuple[str, ...] = ()
    better: Placing | None = None


def fit_of(values: np.ndarray, study: CTStudy) -> Fit:
    """Check a mask, and its mirror images if it fails.

    Args:
        values: (slices, rows, cols), above 0 in emboli.
        study: its study; slices on which a mask or its image lies are read once.
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
    reasons = doubts_of(found, Placing())
    if not reasons:
        return Fit()
    good = [image for image in MIRROR_IMAGES[1:] if not doubts_of(found, image)]
    return Fit(tuple(reasons), good[0] if good else None)


def doubts_of(found: Mapping[Placing, HuStatistics], image: Placing) -> list[str]:
    """Doubts of one image, beside the one with its slices reversed."""
    up, *others = image.flips
    return doubts(found[image].against(found[Placing(flips=(not up, *others))]))  # type: ignore[arg-type]
