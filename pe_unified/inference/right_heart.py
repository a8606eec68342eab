"""The ratio of the ventricles' diameters, RV/LV, from masks of both.

A right ventricle at least as wide as the left is a sign of strain in acute embolism: RV/LV >= 1.0
on CT (Konstantinides et al. 2020, ESC guidelines of 2019,
https://doi.org/10.1093/eurheartj/ehz405). Each ventricle is measured on the axial slice where it is
widest, from the inner surface of its free wall to that of the septum, perpendicular to the septum.
Both need not be on the same slice (Kang et al. 2011, https://doi.org/10.1016/j.jcmg.2011.04.013).

Limits. The result depends on the masks: trabeculae and papillary muscles count as drawn. Without
ECG gating, the widths do not belong to one phase. Axial slices cut the heart obliquely;
four-chamber views give other numbers. RV/LV >= 1 is also common without embolism. A single chord is
measured, so a spike of a mask widens its ventricle.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

#: Largest distance of the septum from both ventricles, mm.
_NEAR_MM = 12.0
#: Slices count if both ventricles are side by side over at least this share of the longest such
#: length; others show the outflow tract or an apex.
_SEPTUM_SHARE = 0.5


class NotMeasurable(ValueError):
    """The masks do not allow a measurement; the message says why."""


@dataclass(frozen=True)
class Diameter:
    """The largest diameter of a ventricle.

    Attributes:
        mm: inner diameter.
        index: index of the slice.
        ends: ((x, y), (x, y)), pixels of the slice; the first pixel spans 0 to 1.
    """

    mm: float
    index: int
    ends: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Ventricles:
    """Both diameters; ``ratio`` is the right diameter over the left."""

    right: Diameter
    left: Diameter

    @property
    def ratio(self) -> float:
        return self.right.mm / self.left.mm


def measure_ventricles(
    right: np.ndarray, left: np.ndarray, spacing_mm: tuple[float, float]
) -> Ventricles:
    """Diameters of the ventricles perpendicular to the septum on axial slices.

    On a slice, the septum is where the distances to both ventricles are equal and at most 12 mm.
    Its direction u, the same for the whole heart, is the first principal axis of these points
    about their mean on each slice; n is perpendicular to it. The diameter of a ventricle M, with
    holes filled, on slice k is the longest chord along n::

        d(M, k) = max over p of the length of the longest run of {t : p + t n in M(k)}, mm

    and RV/LV = max_k d(RV, k) / max_k d(LV, k), over the slices on which both ventricles are side
    by side along u over at least half of the largest such length.

    Args:
        right, left: bool (slices, rows, cols) on one grid, the insides of the ventricles.
        spacing_mm: (row, col), mm.

    Raises:
        NotMeasurable: a mask is empty, or no slice shows a septum between them.
    """
    for name, mask in (("right", right), ("left", left)):
        if not mask.any():
            raise NotMeasurable(f"the mask of the {name} ventricle is empty")
    shared = np.flatnonzero(right.any(axis=(1, 2)) & left.any(axis=(1, 2)))
    if not len(shared):
        raise NotMeasurable("no slice shows both ventricles")
    rows, cols = (_span((right | left).any(axis=axes)) for axes in ((0, 2), (0, 1)))
    cut = {int(k): (right[k, rows, cols], left[k, rows, cols]) for k in shared}
    septum = [_septum(*both, spacing_mm) for both in cut.values()]
    if max(len(points) for points in septum) < 2:
        raise NotMeasurable("no septum lies between the masks of the ventricles")
    across = _across(septum)
    beside = {k: _beside(*both, across, spacing_mm) for k, both in cut.items()}
    longest = max(beside.values())
    if longest <= 0:
        raise NotMeasurable("the masks of the ventricles do not lie side by side")
    seen = [k for k, mm in beside.items() if mm >= _SEPTUM_SHARE * longest]
    corner = (cols.start, rows.start)
    widest = (
        max((_chord(k, cut[k][side], across, spacing_mm, corner) for k in seen), key=_millimetres)
        for side in (0, 1)
    )
    return Ventricles(*widest)


def _millimetres(diameter: Diameter) -> float:
    return diameter.mm


def _span(inside: np.ndarray) -> slice:
    where = np.flatnonzero(inside)
    return slice(int(where[0]), int(where[-1]) + 1)


def _septum(right: np.ndarray, left: np.ndarray, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Points (n, 2) of the septum on a slice, (x, y) in mm."""
    to_right, to_left = (
        ndimage.distance_transform_edt(~mask, sampling=spacing_mm) for mask in (right, left)
    )
    between = (np.abs(to_right - to_left) <= max(spacing_mm)) & ~right & ~left
    between &= np.maximum(to_right, to_left) <= _NEAR_MM
    return np.argwhere(between)[:, ::-1] * spacing_mm[::-1]


def _across(septum: Iterable[np.ndarray]) -> np.ndarray:
    """Unit vector (x, y) perpendicular to the septum."""
    centred = np.concatenate([points - points.mean(axis=0) for points in septum if len(points)])
    return np.linalg.eigh(centred.T @ centred)[1][:, 0]


def _beside(
    right: np.ndarray, left: np.ndarray, across: np.ndarray, spacing_mm: tuple[float, float]
) -> float:
    """Length along the septum that both ventricles share on a slice, mm; negative for none."""
    along = np.array([-across[1], across[0]]) * spacing_mm[::-1]
    ways = [np.argwhere(mask)[:, ::-1] @ along for mask in (right, left)]
    return float(min(way.max() for way in ways) - max(way.min() for way in ways))


def _chord(
    index: int,
    mask: np.ndarray,
    across: np.ndarray,
    spacing_mm: tuple[float, float],
    corner: tuple[int, int],
) -> Diameter:
    """The longest chord of a mask along ``across``; ``corner``: (col, row) of its first pixel."""
    step = min(spacing_mm) / 2
    size = np.array(spacing_mm[::-1])
    # Rotated about the middle, so that lines across the septum are rows of the image.
    turned = np.stack([across, (-across[1], across[0])], axis=1)
    middle = (np.array(mask.shape[::-1]) - 1) / 2
    side = int(np.ceil(np.linalg.norm(np.array(mask.shape[::-1]) * size) / step)) + 3
    to_pixel = turned * step / size[:, None]
    start = middle - to_pixel @ np.full(2, (side - 1) / 2)
    picture = cv2.warpAffine(
        ndimage.binary_fill_holes(mask).astype(np.uint8) * 255,
        np.column_stack([to_pixel, start]),
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    edges = np.diff(np.pad((picture >= 128).astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (lines, first), (_, beyond) = np.nonzero(edges > 0), np.nonzero(edges < 0)
    longest = np.flatnonzero(beyond - first == (beyond - first).max())
    best = int(longest[len(longest) // 2])
    ends = []
    for at in (first[best] - 0.5, beyond[best] - 0.5):
        x, y = to_pixel @ (at, lines[best]) + start + corner + 0.5
        ends.append((float(x), float(y)))
    return Diameter(float(beyond[best] - first[best]) * step, index, (ends[0], ends[1]))
