"""Checks by the Hounsfield units under the masks whether they belong to their slices.

Emboli have about 20-120 HU in contrast of 150-500 HU. Masks paired with the wrong slices cover
lung, bone and contrast instead, and cause no other error.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from pe_unified.converters.contract.schema import crop_to_mask
from pe_unified.errors import DataError

#: Possible HU of an embolus pixel, including noise and partial volume.
EMBOLUS_HU = (-50, 200)
#: Range of the mean under all masks of a patient, HU. It starts low because pixels of 1 mm mix
#: lung into small emboli; masks that cover the lung next to them are far below.
MEAN_HU = (-120.0, 180.0)
#: Minimum share of mask pixels within ``EMBOLUS_HU``.
LEAST_SHARE = 0.5
#: The order is doubted if the share in reversed order is higher by more than this.
REVERSED_GAIN = 0.15
#: Minimum brightness around emboli (97th percentile), HU: contrast flows past them.
LEAST_CONTRAST_HU = 110.0
#: With fewer mask pixels, only what neither edges nor noise explain is a reason: a mean outside
#: wider limits, HU, and a reversed order that fits better by more.
FEW_PIXELS = 100
MEAN_HU_OF_FEW = (-300.0, 280.0)
REVERSED_GAIN_OF_FEW = 0.3

_RING = 4
_BINS = np.arange(-1024, 1025, 16)


@dataclass
class HuStatistics:
    """Sums over mask pixels, which can be added up over slices.

    Attributes:
        pixels, total, typical: count, sum of HU, and count within ``EMBOLUS_HU``.
        mirrored_pixels, mirrored_typical: the same for masks paired in reversed order.
        ring: histogram of HU around the masks.
    """

    pixels: int = 0
    total: float = 0.0
    typical: int = 0
    mirrored_pixels: int = 0
    mirrored_typical: int = 0
    ring: np.ndarray = field(default_factory=lambda: np.zeros(len(_BINS) - 1, dtype=np.int64))

    def add(self, other: "HuStatistics") -> None:
        self.pixels += other.pixels
        self.total += other.total
        self.typical += other.typical
        self.mirrored_pixels += other.mirrored_pixels
        self.mirrored_typical += other.mirrored_typical
        self.ring = self.ring + other.ring

    @property
    def mean(self) -> float:
        return self.total / self.pixels

    @property
    def share(self) -> float:
        return self.typical / self.pixels

    @property
    def mirrored_share(self) -> float:
        return self.mirrored_typical / self.mirrored_pixels

    @property
    def fits_better_than_reversed(self) -> bool:
        """Confirms the order even if the contrast is poor, or if emboli fill small vessels that are
        surrounded by lung."""
        return bool(self.mirrored_pixels and self.share > self.mirrored_share + REVERSED_GAIN)

    def against(self, other: "HuStatistics") -> "HuStatistics":
        """The same statistics, with those of another order of the masks as the reversed ones."""
        return replace(self, mirrored_pixels=other.pixels, mirrored_typical=other.typical)

    @property
    def contrast(self) -> float:
        """The 97th percentile around the masks, HU."""
        below = np.cumsum(self.ring)
        if not below[-1]:
            return float("nan")
        return float(_BINS[1:][np.searchsorted(below, 0.97 * below[-1])])


def measure(
    hu: np.ndarray, mask: np.ndarray | None, mirrored: np.ndarray | None = None
) -> HuStatistics:
    """Statistics of one slice.

    Args:
        hu: int16 (rows, cols).
        mask: (rows, cols), the masks paired with the slice, or None.
        mirrored: (rows, cols), the masks that a reversed order would pair with it, or None.
    """
    found = HuStatistics()
    if mask is not None:
        top, left, part = crop_to_mask(mask, _RING)
        near = hu[top : top + part.shape[0], left : left + part.shape[1]]
        inside = near[part > 0]
        found.pixels = int(inside.size)
        found.total = float(inside.sum(dtype=np.int64))
        found.typical = _typical(inside)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _RING + 1, 2 * _RING + 1))
        ring = (cv2.dilate(part, kernel) > 0) & (part == 0)
        found.ring = np.histogram(np.clip(near[ring], _BINS[0], _BINS[-1]), _BINS)[0]
    if mirrored is not None:
        inside = hu[mirrored > 0]
        found.mirrored_pixels = int(inside.size)
        found.mirrored_typical = _typical(inside)
    return found


def judge(found: HuStatistics, patient_id: str, cure: str) -> None:
    """Refuse masks that cannot belong to their slices.

    Raises:
        DataError: states what was measured and the ``cure``.
    """
    reasons = doubts(found)
    if reasons:
        raise DataError(patient_id, f"the HU check fails: {'; '.join(reasons)}", cure)


def doubts(found: HuStatistics) -> list[str]:
    """Reasons why masks cannot belong to their slices; empty if they can, or without masks."""
    return list(_doubts(found)) if found.pixels else []


def _doubts(found: HuStatistics) -> Iterator[str]:
    few = found.pixels < FEW_PIXELS
    low, high = MEAN_HU_OF_FEW if few else MEAN_HU
    if not low <= found.mean <= high:
        yield f"mean {found.mean:.0f} HU under the masks, expected about 20 to 120"
    elif found.share < LEAST_SHARE and not few:
        yield (
            f"only {found.share:.0%} of the mask pixels lie within "
            f"{EMBOLUS_HU[0]} to {EMBOLUS_HU[1]} HU"
        )
    if found.contrast < LEAST_CONTRAST_HU and not found.fits_better_than_reversed and not few:
        yield f"no contrast around the masks (97th percentile {found.contrast:.0f} HU)"
    gain = REVERSED_GAIN_OF_FEW if few else REVERSED_GAIN
    if found.mirrored_pixels and found.mirrored_share > found.share + gain:
        yield (
            f"the masks fit better in reversed order ({found.mirrored_share:.0%} against "
            f"{found.share:.0%} of the pixels look like emboli)"
        )


def _typical(inside: np.ndarray) -> int:
    return int(np.count_nonzero((inside >= EMBOLUS_HU[0]) & (inside <= EMBOLUS_HU[1])))
