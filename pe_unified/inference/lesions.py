"""Lesions in three dimensions, joined from the masks and the boxes of the slices."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pe_unified.ct.study import CTStudy
from pe_unified.evaluation.verdict import ExamThresholds, Verdict, can_be_clot, judge
from pe_unified.inference.joining import Part, join_parts
from pe_unified.inference.measures import diameter_mm, mean_hu, volume_ml
from pe_unified.inference.model import InferenceModel
from pe_unified.inference.predictor import SlicePrediction
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import Survey

#: Lesions of masks alone that are smaller than this are noise, ml.
SMALLEST_ML = 0.01
#: A lesion is called segmental when at least this share of it is surrounded by lung.
_WITHIN_LUNG = 0.5
#: Nearer to the middle than this, a lesion has no side, mm.
_MIDLINE_MM = 8.0

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Lesion:
    """One finding.

    Attributes:
        number: from 1, by falling score; those that cannot be clots come last.
        score: the higher of ``mask_score`` and ``box_score``.
        mask_score: mean probability of its pixels; None without a mask.
        box_score: highest score of a box; None without one.
        slices: (first, last) slice, both included.
        key_slice: where most of it is seen.
        box: (x1, y1, x2, y2) on the key slice, pixels.
        centroid: (slice, row, col) indices.
        centroid_mm: LPS coordinates, mm.
        side: ``"right"``, ``"left"`` or ``"midline"``, of the patient.
        level: ``"central"`` or ``"segmental"``: a guess from how much lung surrounds it.
        volume_ml, diameter_mm, mean_hu: of the mask; None without one.
        pixels: by slice, row-major numbers of its pixels.
        boxes: slice, box and score of each of its boxes.
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
    pixels: dict[int, np.ndarray]
    boxes: tuple[tuple[int, Box, float], ...] = ()
    called: bool | None = None

    @property
    def listed(self) -> bool:
        """Whether it is a finding; what is looked at and not called is a candidate only."""
        return self.called is not False


def find_lesions(
    predictions: Sequence[SlicePrediction],
    reader: SliceReader,
    survey: Survey,
    smallest_ml: float = SMALLEST_ML,
) -> list[Lesion]:
    """Join what the slices show into lesions, by falling score.

    Args:
        predictions: of the slices, in order.
        reader: gives the Hounsfield units under the masks.
        survey: gives sides and lungs.
        smallest_ml: smaller lesions that no box supports are left out.
    """
    shape = reader.study.shape[1:]
    found = [_describe(parts, reader, survey) for parts in join_parts(predictions, shape)]
    kept = [
        lesion
        for lesion in found
        if lesion.box_score is not None or (lesion.volume_ml or 0.0) >= smallest_ml
    ]
    kept.sort(
        key=lambda lesion: (
            not can_be_clot(lesion.mean_hu),
            -lesion.score,
            lesion.slices,
            lesion.box,
        )
    )
    return [replace(lesion, number=number) for number, lesion in enumerate(kept, start=1)]


def judge_study(
    predictions: Sequence[SlicePrediction],
    lesions: Sequence[Lesion],
    step_mm: float,
    model: InferenceModel,
) -> tuple[Verdict, list[Lesion]]:
    """The verdict on a study, and its lesions, which know whether they are called.

    Args:
        predictions: of neighbouring slices, in order.
        lesions: of :func:`find_lesions`.
        step_mm: between slices.
        model: gives the thresholds, and what it looks for.
    """
    thresholds = model.thresholds
    verdict = judge(
        [each.probability for each in predictions if each.probability is not None],
        step_mm,
        [(lesion.score, lesion.mean_hu) for lesion in lesions] if model.looks_for_lesions else None,
        ExamThresholds(thresholds.exam, thresholds.lesion),
    )
    called = zip(lesions, verdict.lesions, strict=True)
    return verdict, [replace(lesion, called=answer) for lesion, answer in called]


def _describe(parts: Sequence[Part], reader: SliceReader, survey: Survey) -> Lesion:
    study = reader.study
    masks = [part for part in parts if not part.is_box]
    boxes = [part for part in parts if part.is_box]
    weighted = masks or boxes
    points = _points(weighted, study)
    mask_score = None
    if masks:
        mask_score = float(np.average([p.score for p in masks], weights=[p.area for p in masks]))
    box_score = max((part.score for part in boxes), default=None)
    index, row, col = points.mean(axis=0)
    x, y, z = (float(along) for along in study.positions_mm(points).mean(axis=0))
    by_slice: dict[int, float] = {}
    for part in weighted:
        by_slice[part.index] = by_slice.get(part.index, 0.0) + part.area
    key = max(by_slice, key=lambda number: (by_slice[number], -number))
    on_key = [part.box for part in weighted if part.index == key]
    pixels: dict[int, np.ndarray] = {}
    for part in masks:
        joined = np.concatenate([pixels.get(part.index, part.pixels[:0]), part.pixels])
        pixels[part.index] = np.sort(joined)
    return Lesion(
        number=0,
        score=max(score for score in (mask_score, box_score) if score is not None),
        mask_score=mask_score,
        box_score=box_score,
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
        mean_hu=mean_hu(pixels, reader) if masks else None,
        pixels=pixels,
        boxes=tuple((part.index, part.box, part.score) for part in boxes),
    )


def _points(parts: Sequence[Part], study: CTStudy) -> np.ndarray:
    """(n, 3) slice, row and column of every pixel; of every box its middle."""
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
