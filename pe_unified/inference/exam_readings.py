"""Compact predictions of a model for exams of a converted set, with the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pe_unified.errors import DataError
from pe_unified.evaluation.froc import LesionTable
from pe_unified.evaluation.intervals import FloatArray
from pe_unified.evaluation.lesion_fusion import (
    ANSWERS,
    LesionFusion,
    fit_fusion,
    scores_out_of_fold,
)
from pe_unified.evaluation.verdict import ExamThresholds, Verdict, judge
from pe_unified.inference.converted import WholeExam, touching
from pe_unified.inference.lesion_marks import LesionMark, marks_of
from pe_unified.inference.lesions import find_lesions
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.slice_prediction import probabilities_along
from pe_unified.inference.survey import survey
from pe_unified.inference.volumes import VolumeModel, predict_study
from pe_unified.progress import say, track

Marks = Mapping[str, Sequence[LesionMark]]


@dataclass(frozen=True, eq=False)
class ExamReading:
    """One exam with the content of its report.

    Attributes:
        positive: whether it shows embolism.
        patient, group: its patient, and the group of patients or the patient itself.
        step_mm: distance between slices.
        probability: (slices,), from
            :func:`~pe_unified.inference.slice_prediction.probabilities_along`.
        score: float64 (lesions,), descending; None if the model does not look for lesions.
        possible: bool (lesions,), whether each has the attenuation of a clot; others are never
            called.
        answers: float64 (lesions, answers), the inputs of a fusion.
        hits: bool (lesions, emboli), which true emboli each lesion touches; None if these are
            unknown.
    """

    positive: bool
    patient: str
    group: str
    step_mm: float
    probability: Sequence[float]
    score: FloatArray | None
    possible: np.ndarray
    answers: FloatArray
    hits: np.ndarray | None

    def verdict(self, thresholds: ExamThresholds | None = None) -> Verdict:
        """The verdict; without thresholds it has scores but no called findings."""
        pairs = None
        if self.score is not None:
            pairs = list(zip(self.score.tolist(), self.possible.tolist(), strict=True))
        return judge(self.probability, self.step_mm, pairs, thresholds or ExamThresholds())


def read_exams(
    predictor: StudyPredictor, exams: Sequence[WholeExam], title: str, marks: Marks | None = None
) -> list[ExamReading]:
    """The content of the report of each exam.

    Args:
        predictor: predictor with the model.
        exams: exams of a converted set.
        title: title of the progress bar.
        marks: marks of a volume model, by study, in the coordinates of
            :func:`~pe_unified.ct.converted_study.converted_study`.
    """
    readings = []
    model = predictor.model
    for exam in track(exams, title):
        reader = SliceReader(exam.study)
        first_look = survey(reader, finder=predictor.lungs)
        own = marks_of(marks or {}, exam.study)
        predictions = predictor.predict(reader, first_look, every_slice=bool(own))
        lesions = find_lesions(predictions, reader, first_look, marks=own, fusion=model.fusion)
        emboli = exam.emboli() if model.looks_for_lesions else None
        score = np.array([lesion.score for lesion in lesions])
        readings.append(
            ExamReading(
                positive=exam.positive,
                patient=exam.patient,
                group=exam.group,
                step_mm=exam.study.known_spacing()[2],
                probability=probabilities_along(predictions),
                score=score if model.looks_for_lesions else None,
                possible=np.array([lesion.can_be_clot for lesion in lesions], dtype=bool),
                answers=np.array([lesion.answers for lesion in lesions]).reshape(-1, len(ANSWERS)),
                hits=None if emboli is None else touching(lesions, emboli, exam.study.shape[1:]),
            )
        )
    return readings


def mark_exams(model: VolumeModel, exams: Sequence[WholeExam]) -> Marks:
    """Marks of a volume model on exams, by series; reports exams that are not volumes with lungs.

    A study without series is its own.
    """
    marks = {}
    for exam in track(exams, "marking studies in 3D"):
        try:
            study = exam.study
            marks[study.series_uid or study.study_uid] = predict_study(model, study).lesion_marks()
        except DataError as error:
            say(f"no marks in 3D: {error}")
    return marks


def fuse_lesions(
    readings: Sequence[ExamReading],
) -> tuple[LesionFusion | None, list[ExamReading]]:
    """A fusion of the predictions for lesions, fitted on these exams.

    Args:
        readings: readings of validation exams.

    Returns:
        The fusion and the readings with its scores, each from a fit on other patients. None and the
        unchanged readings if too few lesions have a known truth.
    """
    known = [each for each in readings if each.hits is not None]
    rows = [each.answers[each.possible] for each in known]
    true = [each.hits[each.possible].any(axis=1) for each in known if each.hits is not None]
    if not rows:
        return None, list(readings)
    design, label = np.concatenate(rows), np.concatenate(true)
    fusion = fit_fusion(design, label)
    if fusion is None:
        return None, list(readings)
    groups = [each.group for each, own in zip(known, rows, strict=True) for _ in own]
    scores = iter(scores_out_of_fold(design, label, groups, fusion))
    fused = []
    for each in readings:
        score = fusion.score(each.answers)
        if each.hits is not None:
            score[each.possible] = [next(scores) for _ in range(int(each.possible.sum()))]
        fused.append(replace(each, score=score if each.score is not None else None))
    return fusion, fused


def lesion_table(readings: Sequence[ExamReading]) -> LesionTable | None:
    """Lesions as marks: a lesion that touches an embolus finds it; others are false.

    Lesions that cannot be clots are left out, because reports never call them. None if no exam has
    known emboli.
    """
    known = [each for each in readings if each.hits is not None and each.score is not None]
    if not known:
        return None
    table = LesionTable.build(
        [each.patient for each in known],
        [each.score[each.possible] for each in known if each.score is not None],
        [
            np.where(each.hits[each.possible], 0.0, np.inf)
            for each in known
            if each.hits is not None
        ],
        epsilon_mm=0.0,
    )
    group_of = {each.patient: each.group for each in known}
    return replace(table, groups=tuple(group_of[patient] for patient in table.patients))
