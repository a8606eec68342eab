"""Which parts of neighbouring slices, pixels of masks and boxes, belong to one lesion."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pe_unified.inference.predictor import SlicePrediction

#: A box and a mask belong together where this share of the mask lies in the box.
_SHARE_IN_BOX = 0.3
#: Boxes of neighbouring slices belong together from this overlap (IoU).
_SAME_BOX = 0.3


@dataclass(frozen=True, eq=False)
class Part:
    """A component of a mask, or a box, on one slice."""

    index: int
    pixels: np.ndarray
    score: float
    box: tuple[float, float, float, float]
    is_box: bool

    @property
    def area(self) -> float:
        if len(self.pixels):
            return float(len(self.pixels))
        x1, y1, x2, y2 = self.box
        return (x2 - x1) * (y2 - y1)


def join_parts(predictions: Sequence[SlicePrediction], shape: tuple[int, int]) -> list[list[Part]]:
    """The parts of all slices, in groups that belong together.

    Pixels join where they touch (26 neighbours); a box joins the masks that lie in it, on its own
    slice and on the next ones, and boxes of neighbouring slices that overlap.

    Args:
        predictions: of the slices, in order.
        shape: (rows, cols) of a slice.
    """
    parts: list[Part] = []
    groups = _Groups()
    below: list[int] = []
    last = None
    for prediction in predictions:
        here = []
        for part in _parts_of(prediction, shape):
            here.append(len(parts))
            parts.append(part)
            groups.add()
        _join(parts, here, here, groups, shape, same_slice=True)
        if last is not None and prediction.index == last + 1:
            _join(parts, here, below, groups, shape, same_slice=False)
        below, last = here, prediction.index
    return [[parts[number] for number in members] for members in groups.members()]


class _Groups:
    """Disjoint sets of parts."""

    def __init__(self) -> None:
        self._parent: list[int] = []

    def add(self) -> None:
        self._parent.append(len(self._parent))

    def root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        self._parent[second] = first

    def members(self) -> list[list[int]]:
        by_root: dict[int, list[int]] = {}
        for number in range(len(self._parent)):
            by_root.setdefault(self.root(number), []).append(number)
        return list(by_root.values())


def _parts_of(prediction: SlicePrediction, shape: tuple[int, int]) -> list[Part]:
    parts = []
    if len(prediction.pixels):
        rows, cols = np.divmod(prediction.pixels, shape[1])
        top, left = int(rows.min()), int(cols.min())
        window = np.zeros((int(rows.max()) - top + 1, int(cols.max()) - left + 1), np.uint8)
        window[rows - top, cols - left] = 1
        _, labels = cv2.connectedComponents(window, connectivity=8)
        numbers = labels[rows - top, cols - left]
        for number in range(1, int(numbers.max()) + 1):
            own = numbers == number
            box = (cols[own].min(), rows[own].min(), cols[own].max() + 1, rows[own].max() + 1)
            score = float(prediction.pixel_probability[own].mean())
            parts.append(
                Part(prediction.index, prediction.pixels[own], score, _floats(box), is_box=False)
            )
    for box, score in zip(prediction.boxes, prediction.scores, strict=True):
        empty = np.empty(0, np.int32)
        parts.append(Part(prediction.index, empty, float(score), _floats(box), is_box=True))
    return parts


def _floats(box: Sequence[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(edge) for edge in box)
    return x1, y1, x2, y2


def _join(
    parts: Sequence[Part],
    here: Sequence[int],
    there: Sequence[int],
    groups: _Groups,
    shape: tuple[int, int],
    same_slice: bool,
) -> None:
    for one in here:
        for other in there:
            if (not same_slice or one < other) and _belong(
                parts[one], parts[other], shape, same_slice
            ):
                groups.join(one, other)


def _belong(one: Part, other: Part, shape: tuple[int, int], same_slice: bool) -> bool:
    if not _near(one.box, other.box):
        return False
    if one.is_box and other.is_box:
        return not same_slice and _iou(one.box, other.box) >= _SAME_BOX
    if one.is_box or other.is_box:
        box, mask = (one, other) if one.is_box else (other, one)
        rows, cols = np.divmod(mask.pixels, shape[1])
        x1, y1, x2, y2 = box.box
        inside = (cols + 0.5 > x1) & (cols + 0.5 < x2) & (rows + 0.5 > y1) & (rows + 0.5 < y2)
        return bool(inside.mean() >= _SHARE_IN_BOX)
    if same_slice:
        return False
    return _touch(one.pixels, other.pixels, shape)


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes overlap or touch, corners included."""
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _iou(one: Sequence[float], other: Sequence[float]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide * high / (areas - wide * high)


def _touch(one: np.ndarray, other: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether pixels of neighbouring slices touch, corners included."""
    rows, cols = np.divmod(one, shape[1])
    around = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            row, col = rows + down, cols + right
            valid = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
            around.append((row * shape[1] + col)[valid])
    return bool(np.isin(other, np.concatenate(around)).any())
