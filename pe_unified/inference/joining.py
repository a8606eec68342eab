"""Joining masks, boxes and marks of neighbouring slices into lesions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.draw import ellipse

from pe_unified.ct.study import CTStudy
from pe_unified.evaluation.detection import box_iou
from pe_unified.inference.slice_prediction import SlicePrediction

#: A box and a mask belong together if at least this share of the mask is in the box.
_SHARE_IN_BOX = 0.3
#: Boxes of neighbouring slices belong together from this overlap (IoU) on.
_SAME_BOX = 0.3
#: Radius of the disc that represents a mark, mm.
_MARK_MM = 5.0


@dataclass(frozen=True, eq=False)
class Part:
    """A mask component, a box, or the disc around a 3D mark, on one slice."""

    index: int
    pixels: np.ndarray
    score: float
    box: tuple[float, float, float, float]
    is_box: bool
    is_mark: bool = False

    @property
    def area(self) -> float:
        if len(self.pixels):
            return float(len(self.pixels))
        x1, y1, x2, y2 = self.box
        return (x2 - x1) * (y2 - y1)


def join_parts(
    predictions: Sequence[SlicePrediction], shape: tuple[int, int], marks: Sequence[Part] = ()
) -> list[list[Part]]:
    """The parts of all slices, grouped into lesions.

    Masks are joined if they touch (26 neighbours). A box is joined with the masks inside it, on its
    own slice and the neighbouring ones, and with overlapping boxes of neighbouring slices. The disc
    of a mark is joined like a mask, and with masks that it touches on its own slice.

    Args:
        predictions: predictions of the slices, in order.
        shape: (rows, cols) of a slice.
        marks: from :func:`mark_part`; marks on other slices are ignored.
    """
    parts: list[Part] = []
    pairs: list[tuple[int, int]] = []
    below: list[int] = []
    last = None
    for prediction in predictions:
        first = len(parts)
        parts += _parts_of(prediction, shape)
        parts += [mark for mark in marks if mark.index == prediction.index]
        here = list(range(first, len(parts)))
        boxes = [number for number in here if parts[number].is_box]
        masks = [number for number in here if not parts[number].is_box]
        marked = [number for number in here if parts[number].is_mark]
        # On one slice, masks do not touch, and overlapping boxes are different findings.
        pairs += _pairs(parts, product(masks, boxes), shape)
        pairs += _pairs(parts, product(marked, masks), shape)
        if last is not None and prediction.index == last + 1:
            pairs += _pairs(parts, product(here, below), shape)
        below, last = here, prediction.index
    return _groups(parts, pairs)


def _groups(parts: Sequence[Part], pairs: Sequence[tuple[int, int]]) -> list[list[Part]]:
    """The parts grouped by pairs, in the order of their first parts."""
    if not parts:
        return []
    one, other = np.array(pairs, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(len(parts), len(parts)))
    _, labels = connected_components(graph, directed=False)
    by_label: dict[int, list[Part]] = {}
    for label, part in zip(labels, parts, strict=True):
        by_label.setdefault(int(label), []).append(part)
    return list(by_label.values())


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


def mark_part(
    index: int, row: float, col: float, probability: float, study: CTStudy
) -> Part | None:
    """A mark as a disc with diameter 2 x :data:`_MARK_MM`; None if it is outside the slice."""
    shape, (row_mm, col_mm, _) = study.shape[1:], study.known_spacing()
    rows, cols = ellipse(row, col, _MARK_MM / row_mm, _MARK_MM / col_mm, shape=shape)
    if not len(rows):
        return None
    box = (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1)
    pixels = np.sort(rows * shape[1] + cols).astype(np.int32)
    return Part(index, pixels, probability, _floats(box), is_box=False, is_mark=True)


def _floats(box: Sequence[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(edge) for edge in box)
    return x1, y1, x2, y2


def _pairs(
    parts: Sequence[Part],
    candidates: Iterable[tuple[int, int]],
    shape: tuple[int, int],
) -> list[tuple[int, int]]:
    return [(one, other) for one, other in candidates if belong(parts[one], parts[other], shape)]


def belong(one: Part, other: Part, shape: tuple[int, int]) -> bool:
    """Whether two parts of the same or neighbouring slices belong to one lesion."""
    if not _near(one.box, other.box):
        return False
    if one.is_box and other.is_box:
        overlap = box_iou(np.array([one.box]), np.array([other.box]))
        return float(overlap[0, 0]) >= _SAME_BOX
    if one.is_box or other.is_box:
        box, mask = (one, other) if one.is_box else (other, one)
        rows, cols = np.divmod(mask.pixels, shape[1])
        x1, y1, x2, y2 = box.box
        inside = (cols + 0.5 > x1) & (cols + 0.5 < x2) & (rows + 0.5 > y1) & (rows + 0.5 < y2)
        return bool(inside.mean() >= _SHARE_IN_BOX)
    return _touch(one.pixels, other.pixels, shape)


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes overlap or touch, including corners."""
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _touch(one: np.ndarray, other: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether pixels of neighbouring slices touch, including corners."""
    rows, cols = np.divmod(one, shape[1])
    around = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            row, col = rows + down, cols + right
            valid = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
            around.append((row * shape[1] + col)[valid])
    return bool(np.isin(other, np.concatenate(around)).any())
