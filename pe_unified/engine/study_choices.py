"""Thresholds and lesion scores for studies, fixed on whole exams of the validation split."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log

from pe_unified.evaluation.lesion_fusion import LesionFusion
from pe_unified.evaluation.verdict import choose_exam_thresholds
from pe_unified.inference.converted import exams_of_split
from pe_unified.inference.exam_readings import Marks, fuse_lesions, lesion_table, read_exams
from pe_unified.inference.model import Model
from pe_unified.inference.predictor import StudyPredictor


@dataclass(frozen=True)
class StudyChoices:
    """What is fixed on the exams.

    Fields:
        thresholds: ``exam/stretch_threshold``, ``exam/lesion_threshold``, and
            ``findings/threshold``, at which lesions have their highest F1; fewer if the split
            cannot choose them. ``exam/threshold`` belongs to a metric, which scores exams in
            another way.
        fusion: computes the scores of lesions; None if not requested, or if it cannot be fitted.
    """

    thresholds: dict[str, float]
    fusion: LesionFusion | None = None


def choose_on_exams(
    model: Model, dataset: Mapping[str, Any], fuse: bool = False, marks: Marks | None = None
) -> StudyChoices:
    """Choose thresholds on the answers that reports of the validation studies would give.

    Args:
        model: has all other thresholds.
        dataset: config of the validation split.
        fuse: first fit the scores of lesions.
        marks: marks of a 3D model, by study.
    """
    exams = exams_of_split(dataset)
    both = len({exam.positive for exam in exams}) == 2
    if not both:
        _warn("threshold for exams", "the split does not have whole studies of both classes")
        if not (model.looks_for_lesions and exams):
            return StudyChoices({})
    print_log(f"reading {len(exams)} validation studies as for a report", logger="current")
    readings = read_exams(StudyPredictor(model), exams, "reading validation studies", marks)
    fusion = None
    if fuse:
        fusion, readings = fuse_lesions(readings)
        if fusion is None:
            reason = "too few lesions with a known label"
            if not model.looks_for_lesions:
                reason = "the model looks for no lesions"
            _warn("fusion of lesions", reason)
    table = lesion_table(readings)
    cut = None if table is None else table.best_f1_threshold()
    found = {} if cut is None else {"findings/threshold": cut}
    if not both:
        return StudyChoices(found, fusion)
    labels = [exam.positive for exam in exams]
    chosen = choose_exam_thresholds(labels, [reading.verdict() for reading in readings])
    if chosen is None:
        _warn("threshold for exams", "on the validation split, no rule is better than chance")
        return StudyChoices(found, fusion)
    of_exams = {"exam/stretch_threshold": chosen.stretch, "exam/lesion_threshold": chosen.lesion}
    found |= {key: value for key, value in of_exams.items() if value is not None}
    return StudyChoices(found, fusion)


def numbers_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Only the metrics and thresholds that are numbers, as a checkpoint keeps them."""
    return {key: value for key, value in metrics.items() if isinstance(value, float | int)}


def _warn(what: str, reason: str) -> None:
    print_log(f"no {what}: {reason}", logger="current", level=logging.WARNING)
