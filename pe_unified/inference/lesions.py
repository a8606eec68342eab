"""Lesions in three dimensions, joined from the masks and the boxes of the slices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from pe_unified.ct.study import CTStudy
from pe_unified.evaluation.intervals import FloatArray
from pe_unified.evaluation.lesion_fusion import LesionFusion, answers_row
from pe_unified.evaluation.verdict import ExamThresholds, Verdict, can_be_clot, can_hold_clot, judge
from pe_unified.inference.joining import Part, join_parts, mark_part
from pe_unified.inference.lesion_marks import LesionMark, voxel_of
from pe_unified.inference.measures import diameter_mm, mean_hu, volume_ml
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.slice_prediction import SlicePrediction, probabilities_along
from pe_unified.inference.survey import Survey

if TYPE_CHECKING:
    from pe_unified.inference.model import Model

#: Lesions with only masks that are smaller than this count as noise, ml.
SMALLEST_ML = 0.01
#: A lesion is called segmental if at least this share of it is surrounded by lung.
_WITHIN_LUNG = 0.5
#: A lesion closer to the midline than this has no side, mm.
_MIDLINE_MM = 8.0

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Lesion:
    """One finding.

    Attributes:
        number: from 1, by descending score; lesions that cannot be clots come last.
        score: from the model's fusion, if it has one; else the highest of the next three.
        mask_score: mean probability of its pixels; None without a mask.
        box_score: highest score of a box; None without one.
        mark_score: highest probability of a 3D mark; None without one.
        slice_score: highest probability of its slices; None if the model does not classify.
        slices: (first, last) slice, inclusive.
        key_slice: slice with the largest part of it.
        box: (x1, y1, x2, y2) on the key slice, pixels.
        centroid: (slice, row, col) indices.
        centroid_mm: LPS coordinates, mm.
        side: ``"right"``, ``"left"`` or ``"midline"``, of the patient.
        level: ``"central"`` or ``"segmental"``, estimated from the lung around it.
        volume_ml, diameter_mm, mean_hu: measures of the mask; None without one.
        can_be_clot: whether its mask has the attenuation of a clot, or else its boxes and marks
            have room for one.
        pixels: row-major indices of its pixels, by slice.
        boxes: slice, box and score of each of its boxes.
        discs: pixels around its marks, by slice.
        found_by: indices of the networks that found it on their own; None if fewer than two look
            for lesions.
        called: see :class:`~pe_unified.evaluation.verdict.Verdict`.
    """

    number: int
    score: float
    mask_score: float | None
    box_score: float | None
    slices: tuple[int, int]
    key_slice: int
    box: Box
    centroid: tuple[float, float, float]
    centroid_mm: tuple[float, float, float]
    side: str
    level: str
    volume_ml: float | None
    diameter_mm: float | None
    mean_hu: float | None
    can_be_clot: bool
    pixels: dict[int, np.ndarray]
    boxes: tuple[tuple[int, Box, float], ...] = ()
    mark_score: float | None = None
    slice_score: float | None = None
    discs: dict[int, np.ndarray] = field(default_factory=dict)
    found_by: tuple[int, ...] | None = None
    called: bool | None = None

    @property
    def listed(self) -> bool:
        """Whether it is listed as a finding; lesions that are not called are only candidates."""
        return self.called is not False

    @property
    def answers(self) -> FloatArray:
        """Inputs of a fusion: :func:`~pe_unified.evaluation.lesion_fusion.answers_row`."""
        scores = (self.mask_score, self.box_score, self.slice_score, self.mark_score)
        return answers_row(*scores, self.volume_ml)


def find_lesions(
    predictions: Sequence[SlicePrediction],
    reader: SliceReader,
    survey: Survey,
    smallest_ml: float = SMALLEST_ML,
    marks: Sequence[LesionMark] = (),
    fusion: LesionFusion | None = None,
) -> list[Lesion]:
    """Join the findings of slices into lesions, by descending score.

    Args:
        predictions: predictions of the slices, in order.
        reader: gives the Hounsfield units under the masks.
        survey: gives sides and lungs.
        smallest_ml: smaller lesions without a box or mark are left out.
        marks: marks of a volume model.
        fusion: gives the score; None for the highest score of mask, boxes and marks.
    """
    study = reader.study
    places = [(voxel_of(mark, study), mark.probability) for mark in marks]
    discs = [mark_part(*place, probability, study) for place, probability in places]
    groups = join_parts(predictions, study.shape[1:], [disc for disc in discs if disc is not None])
    seen = {each.index: each for each in predictions}
    found = [_describe(parts, reader, survey, seen) for parts in groups]
    kept = [
        lesion
        for lesion in found
        if (lesion.box_score, lesion.mark_score) != (None, None)
        or (lesion.volume_ml or 0.0) >= smallest_ml
    ]
    if fusion is not None and kept:
        scores = fusion.score(np.stack([lesion.answers for lesion in kept]))
        pairs = zip(kept, scores, strict=True)
        kept = [replace(lesion, score=float(score)) for lesion, score in pairs]
    kept.sort(
        key=lambda lesion: (
            not lesion.can_be_clot,
            -lesion.score,
            lesion.slices,
            lesion.box,
        )
    )
    return [replace(lesion, number=number) for number, lesion in enumerate(kept, start=1)]


def describe_drawn(parts: Sequence[Part], reader: SliceReader, survey: Survey) -> Lesion:
    """One lesion from a manual drawing, even if its parts do not touch.

    Args:
        parts: parts on single slices, at least one.
        reader: gives the Hounsfield units under the masks.
        survey: gives side and lungs.
    """
    none = (np.empty(0, np.int32), np.empty(0, np.float32))
    no_boxes = (np.empty((0, 4), np.float32), np.empty(0, np.float32))
    unseen = {
        part.index: SlicePrediction(part.index, None, True, *none, *no_boxes) for part in parts
    }
    return _describe(parts, reader, survey, unseen)


def judge_study(
    predictions: Sequence[SlicePrediction],
    lesions: Sequence[Lesion],
    step_mm: float,
    model: "Model",
) -> tuple[Verdict, list[Lesion]]:
    """The verdict on a study, and its lesions with ``called`` set.

    Args:
        predictions: predictions of neighbouring slices, in order.
        lesions: from :func:`find_lesions`.
        step_mm: distance between slices.
        model: gives the thresholds and tasks.
    """
    thresholds = model.thresholds
    verdict = judge(
        probabilities_along(predictions),
        step_mm,
        [(lesion.score, lesion.can_be_clot) for lesion in lesions]
        if model.looks_for_lesions
        else None,
        ExamThresholds(thresholds.exam, thresholds.lesion),
    )
    called = zip(lesions, verdict.lesions, strict=True)
    return verdict, [replace(lesion, called=answer) for lesion, answer in called]


def _describe(
    parts: Sequence[Part],
    reader: SliceReader,
    survey: Survey,
    predictions: Mapping[int, SlicePrediction],
) -> Lesion:
    study = reader.study
    marks = [part for part in parts if part.is_mark]
    masks = [part for part in parts if not part.is_box and not part.is_mark]
    boxes = [part for part in parts if part.is_box]
    weighted = masks or boxes or marks
    points = _points(weighted, study)
    mask_score = None
    if masks:
        mask_score = float(np.average([p.score for p in masks], weights=[p.area for p in masks]))
    box_score = max((part.score for part in boxes), default=None)
    mark_score = max((part.score for part in marks), default=None)
    on_slices = [predictions[index].probability for index in {part.index for part in parts}]
    index, row, col = points.mean(axis=0)
    x, y, z = (float(along) for along in study.positions_mm(points).mean(axis=0))
    by_slice: dict[int, float] = {}
    for part in weighted:
        by_slice[part.index] = by_slice.get(part.index, 0.0) + part.area
    key = max(by_slice, key=lambda number: (by_slice[number], -number))
    on_key = [part.box for part in weighted if part.index == key]
    pixels = _by_slice(masks)
    discs = _by_slice(marks)
    hu = mean_hu(pixels, reader) if masks else None
    return Lesion(
        number=0,
        score=max(each for each in (mask_score, box_score, mark_score) if each is not None),
        mask_score=mask_score,
        box_score=box_score,
        mark_score=mark_score,
        slice_score=max((each for each in on_slices if each is not None), default=None),
        discs=discs,
        found_by=_found_by(masks, boxes, predictions),
        slices=(min(part.index for part in parts), max(part.index for part in parts)),
        key_slice=key,
        box=(
            min(box[0] for box in on_key),
            min(box[1] for box in on_key),
            max(box[2] for box in on_key),
            max(box[3] for box in on_key),
        ),
        centroid=(float(index), float(row), float(col)),
        centroid_mm=(x, y, z),
        side=_side(float(col), study, survey),
        level=_level(points, survey),
        volume_ml=volume_ml(pixels, study) if masks else None,
        diameter_mm=diameter_mm(points, study) if masks else None,
        mean_hu=hu,
        can_be_clot=can_hold_clot(_hu_around(boxes, discs, reader))
        if hu is None
        else can_be_clot(hu),
        pixels=pixels,
        boxes=tuple((part.index, part.box, part.score) for part in boxes),
    )


def _hu_around(
    boxes: Sequence[Part], discs: Mapping[int, np.ndarray], reader: SliceReader
) -> FloatArray:
    """Attenuation of all pixels in boxes and discs, HU (pixels,)."""
    values = [reader.hu(index).ravel()[own] for index, own in discs.items()]
    for part in boxes:
        x1, y1, x2, y2 = part.box
        inside = slice(max(0, int(y1)), ceil(y2)), slice(max(0, int(x1)), ceil(x2))
        values.append(reader.hu(part.index)[inside].ravel())
    return np.concatenate(values)


def _by_slice(parts: Sequence[Part]) -> dict[int, np.ndarray]:
    """The pixels of the parts by slice, sorted."""
    pixels: dict[int, np.ndarray] = {}
    for part in parts:
        joined = np.concatenate([pixels.get(part.index, part.pixels[:0]), part.pixels])
        pixels[part.index] = np.unique(joined)
    return pixels


def _found_by(
    masks: Sequence[Part], boxes: Sequence[Part], predictions: Mapping[int, SlicePrediction]
) -> tuple[int, ...] | None:
    """The networks that found a pixel of the masks or one of the boxes on their own."""
    found: set[int] = set()
    told = False
    for part in (*masks, *boxes):
        own = predictions[part.index]
        votes = own.box_votes if part.is_box else own.pixel_votes
        if votes is None:
            continue
        told = True
        if part.is_box:
            here = np.all(own.boxes == np.array(part.box, dtype=own.boxes.dtype), axis=1)
        else:
            here = np.isin(own.pixels, part.pixels)
        found.update(np.flatnonzero(votes[:, here].any(axis=1)).tolist())
    return tuple(sorted(found)) if told else None


def _points(parts: Sequence[Part], study: CTStudy) -> np.ndarray:
    """(n, 3) slice, row and column of every pixel, and of the middle of every box."""
    points: list[np.ndarray] = []
    for part in parts:
        if part.is_box:
            x1, y1, x2, y2 = part.box
            middle = np.array([(y1 + y2) / 2 - 0.5, (x1 + x2) / 2 - 0.5])
            row, col = np.clip(middle, 0, np.array(study.shape[1:]) - 1)
            points.append(np.array([[part.index, row, col]]))
        else:
            rows, cols = np.divmod(part.pixels, study.shape[2])
            points.append(np.stack([np.full(len(rows), part.index), rows, cols], axis=1))
    return np.concatenate(points).astype(np.float64)


def _side(col: float, study: CTStudy, survey: Survey) -> str:
    off = (col + 0.5 - survey.middle) * study.known_spacing()[1] * survey.to_left
    if abs(off) < _MIDLINE_MM:
        return "midline"
    return "left" if off > 0 else "right"


def _level(points: np.ndarray, survey: Survey) -> str:
    inside = [
        survey.in_lungs(int(index), rows, cols)
        for index in np.unique(points[:, 0])
        for rows, cols in [np.rint(points[points[:, 0] == index, 1:]).astype(int).T]
    ]
    return "segmental" if np.concatenate(inside).mean() >= _WITHIN_LUNG else "central"
