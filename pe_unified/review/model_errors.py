"""A model's errors on the exams of a converted set: missed emboli and false lesions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from pe_unified.evaluation.figures import SliceView
from pe_unified.evaluation.intervals import Estimate, FloatArray, estimate, ratio
from pe_unified.inference.converted import WholeExam, touching
from pe_unified.inference.exam_readings import mark_exams
from pe_unified.inference.lesion_marks import marks_of
from pe_unified.inference.lesions import Lesion, describe_drawn, find_lesions, judge_study
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey

#: Width of the ring around a lesion in which contrast is measured, mm, and the percentile used.
_AROUND_MM, _PERCENTILE = 5.0, 90.0
#: Edges of the bins of volume, ml, and of the contrast around a lesion, HU.
_SIZES, _CONTRASTS = (0.1, 0.5), (200.0, 350.0)


@dataclass(frozen=True, eq=False)
class Finding:
    """An embolus or a lesion, and whether the model is right about it.

    Attributes:
        kind: ``"found"`` or ``"missed"`` embolus, ``"false"`` lesion, ``"missed exam"`` or
            ``"false exam"``. For an exam, the rest describes its most suspicious slice.
        patient, study: identifiers.
        slice_index: of its key slice in the series.
        file: of that slice in the set.
        score: given by the model; for a missed embolus that of the uncalled lesion there, or None
            if there is no lesion.
        volume_ml, mean_hu: None without a mask.
        side, level: see :class:`~pe_unified.inference.lesions.Lesion`.
        vessel_hu: of the contrast around it; None if unknown.
    """

    kind: str
    patient: str
    study: str
    slice_index: int
    file: str
    score: float | None
    volume_ml: float | None
    mean_hu: float | None
    side: str | None
    level: str | None
    vessel_hu: float | None

    @property
    def bins(self) -> dict[str, str]:
        """The bins in which it is counted, by size, side, level and contrast."""
        return {
            "size": _bin(self.volume_ml, _SIZES, "ml"),
            "side": self.side or "unknown",
            "level": self.level or "unknown",
            "contrast": _bin(self.vessel_hu, _CONTRASTS, "HU"),
        }

    def as_dict(self) -> dict[str, Any]:
        """The finding as written to JSON."""
        names = ("kind", "patient", "study", "slice_index", "file", "side", "level")
        rounded = {"score": 4, "volume_ml": 4, "mean_hu": 1, "vessel_hu": 1}
        values = {name: getattr(self, name) for name in rounded}
        return {
            **{name: getattr(self, name) for name in names},
            **{n: None if v is None else round(v, rounded[n]) for n, v in values.items()},
            **{f"{name}_bin": each for name, each in self.bins.items()},
        }


def judge_exam(predictor: StudyPredictor, exam: WholeExam) -> Iterator[tuple[Finding, SliceView]]:
    """The emboli of an exam, found or missed, its false lesions, and a wrong verdict; each with
    its key slice.

    :func:`~pe_unified.inference.converted.touching` decides whether a lesion finds an embolus: it
    must touch it, with enough of its mask in emboli. Only called lesions count. If the emboli are
    not known, only the verdict is judged.

    Args:
        predictor: holds the model.
        exam: of a converted set.
    """
    reader = SliceReader(exam.study)
    first_look = survey(reader, finder=predictor.lungs)
    predictions = predictor.predict(reader, first_look)
    marks = []
    if predictor.volume_model is not None:
        marks = marks_of(mark_exams(predictor.volume_model, [exam]), exam.study)
    fusion = predictor.model.fusion
    candidates = find_lesions(predictions, reader, first_look, marks=marks, fusion=fusion)
    step_mm = exam.study.known_spacing()[2]
    verdict, lesions = judge_study(predictions, candidates, step_mm, predictor.model)
    shown = _Shown(exam, reader, lesions, {each.index: each.probability for each in predictions})
    emboli = exam.emboli() if predictor.model.looks_for_lesions else None
    if emboli is not None:
        hits = touching(lesions, emboli, exam.study.shape[1:])
        listed = np.array([lesion.listed for lesion in lesions], dtype=bool)
        for number, parts in enumerate(emboli):
            own = hits[:, number]
            scores = [each.score for each, hit in zip(lesions, own, strict=True) if hit]
            kind = "found" if (own & listed).any() else "missed"
            embolus = describe_drawn(parts, reader, first_look)
            yield shown.finding(kind, embolus, max(scores, default=None))
        for lesion, hit in zip(lesions, hits, strict=True):
            if lesion.listed and not hit.any():
                yield shown.finding("false", lesion, lesion.score)
    if verdict.positive is not None and verdict.positive != exam.positive:
        kind = "missed exam" if exam.positive else "false exam"
        yield shown.of_exam(kind, verdict.stretch_score)


class _Shown:
    """Makes the findings of one exam."""

    def __init__(
        self,
        exam: WholeExam,
        reader: SliceReader,
        lesions: Sequence[Lesion],
        probability: Mapping[int, float | None],
    ) -> None:
        self.exam, self.reader, self.probability = exam, reader, probability
        self.lesions = [lesion for lesion in lesions if lesion.listed]

    def finding(self, kind: str, lesion: Lesion, score: float | None) -> tuple[Finding, SliceView]:
        index = lesion.key_slice
        x0, y0, x1, y1 = lesion.box
        view = replace(self._view(index), focus=(x0, y0, x1, y1))
        found = replace(
            self._of_slice(kind, index),
            score=score,
            volume_ml=lesion.volume_ml,
            mean_hu=lesion.mean_hu,
            side=lesion.side,
            level=lesion.level,
            vessel_hu=vessel_hu(lesion, self.reader),
        )
        return found, view

    def of_exam(self, kind: str, score: float | None) -> tuple[Finding, SliceView]:
        """The slice with the highest probability; of those with an embolus if it was missed."""
        known = {index: value or 0.0 for index, value in self.probability.items()}
        positive = {n for n, item in enumerate(self.exam.slices) if item["label"] == 1}
        asked = [n for n in known if n in positive] if kind == "missed exam" else list(known)
        index = max(asked or sorted(positive), key=lambda n: known.get(n, 0.0))
        return replace(self._of_slice(kind, index), score=score), self._view(index)

    def _of_slice(self, kind: str, index: int) -> Finding:
        item = self.exam.slices[index]
        return Finding(
            kind=kind,
            patient=self.exam.patient,
            study=item["study_uid"],
            slice_index=item["slice_index"],
            file="/".join(Path(item["img_path"]).parts[-3:]),
            score=None,
            volume_ml=None,
            mean_hu=None,
            side=None,
            level=None,
            vessel_hu=None,
        )

    def _view(self, index: int) -> SliceView:
        item, size = self.exam.slices[index], self.exam.study.shape[1:]
        truth = None
        if item["masks"] is not None:
            masks = [coco_mask.decode(rle).astype(bool) for rle in item["masks"]]
            truth = np.any(masks, axis=0) if masks else np.zeros(size, dtype=bool)
        predicted = np.zeros(size, dtype=bool)
        boxes: list[tuple[Any, float]] = []
        for lesion in self.lesions:
            predicted.ravel()[lesion.pixels.get(index, np.empty(0, np.int32))] = True
            boxes += [(box, score) for number, box, score in lesion.boxes if number == index]
        only_boxes = item["masks"] is None and item["boxes"] is not None
        return SliceView(
            hu=self.reader.hu(index),
            patient=self.exam.patient,
            slice_index=item["slice_index"],
            truth_mask=truth,
            predicted_mask=predicted,
            truth_boxes=np.asarray(item["boxes"], float) if only_boxes else np.zeros((0, 4)),
            predicted_boxes=np.array([box for box, _ in boxes], float).reshape(-1, 4),
            box_scores=np.array([score for _, score in boxes], float),
            label=None if item["label"] is None else item["label"] == 1,
            probability=self.probability.get(index),
        )


def vessel_hu(lesion: Lesion, reader: SliceReader) -> float | None:
    """HU of the contrast around a lesion on its key slice: the 90th percentile within 5 mm.

    None if there is no ring of pixels around it.
    """
    level = reader.hu(lesion.key_slice)
    mask = np.zeros(level.shape, np.uint8)
    own = lesion.pixels.get(lesion.key_slice)
    if own is not None:
        mask.ravel()[own] = 1
    else:
        x0, y0, x1, y1 = (max(0, round(edge)) for edge in lesion.box)
        mask[y0:y1, x0:x1] = 1
    row_mm, col_mm, _ = reader.study.known_spacing()
    down, along = max(1, round(_AROUND_MM / row_mm)), max(1, round(_AROUND_MM / col_mm))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * along + 1, 2 * down + 1))
    ring = (cv2.dilate(mask, kernel) > 0) & (mask == 0)
    return float(np.percentile(level[ring], _PERCENTILE)) if ring.any() else None


def summarise(findings: Sequence[Finding], exams: int) -> list[dict[str, Any]]:
    """Count emboli, found emboli and false lesions: in total, and by size, place and contrast.

    Args:
        findings: of all exams, including the found emboli.
        exams: number of exams.

    Returns:
        Rows: ``by``, ``bin``, ``emboli``, ``found``, ``sensitivity`` and its interval over
        patients (None if leaving out a patient changes nothing), ``false`` and
        ``false_per_exam``.
    """
    rows = [_row("all", "all", list(findings), exams)]
    for name in ("size", "side", "level", "contrast"):
        kinds: dict[str, list[Finding]] = {}
        for each in findings:
            kinds.setdefault(each.bins[name], []).append(each)
        rising = sorted(kinds, key=lambda kind: (not kind.startswith("under"), kind))
        rows += [_row(name, kind, kinds[kind], exams) for kind in rising]
    return [row for row in rows if row["emboli"] or row["false"] or row["by"] == "all"]


def _row(name: str, kind: str, own: list[Finding], exams: int) -> dict[str, Any]:
    emboli = [each for each in own if each.kind in ("found", "missed")]
    false = sum(each.kind == "false" for each in own)
    found = _sensitivity(emboli)
    return {
        "by": name,
        "bin": kind,
        "emboli": len(emboli),
        "found": sum(each.kind == "found" for each in emboli),
        "sensitivity": None if not emboli else round(found.value, 4),
        "sensitivity_ci": None
        if np.isnan(found.low) or found.low == found.high
        else [round(found.low, 4), round(found.high, 4)],
        "false": false,
        "false_per_exam": round(false / max(1, exams), 4),
    }


def _sensitivity(emboli: Sequence[Finding]) -> Estimate:
    patients = sorted({each.patient for each in emboli})
    if not patients:
        return Estimate(np.nan, np.nan, np.nan)
    counts = np.zeros((len(patients), 2))
    for each in emboli:
        counts[patients.index(each.patient)] += (each.kind == "found", 1)

    def statistic(weights: FloatArray) -> dict[str, FloatArray]:
        found, total = (weights @ counts).T
        return {"sensitivity": ratio(found, total)}

    return estimate(statistic, len(patients))["sensitivity"]


def _bin(value: float | None, ends: Sequence[float], unit: str) -> str:
    if value is None:
        return "unknown"
    low, high = ends
    if value < low:
        return f"under {low:g} {unit}"
    return f"{low:g} to {high:g} {unit}" if value < high else f"{high:g} {unit} and more"
