"""Test a model as it is used on studies: by slices, and by lesions."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from pe_unified.checkpoints import load_checkpoint_safely
from pe_unified.engine.ensemble import models_in
from pe_unified.engine.evaluate import Evaluation, merged
from pe_unified.engine.slice_answers import measure_slices
from pe_unified.engine.unseen import require_unseen
from pe_unified.evaluation.intervals import estimate, with_ends
from pe_unified.evaluation.lesion_fusion import ANSWERS
from pe_unified.evaluation.metrics import RESAMPLES
from pe_unified.inference.converted import exams_of_split
from pe_unified.inference.exam_readings import (
    ExamReading,
    Marks,
    lesion_table,
    mark_exams,
    read_exams,
)
from pe_unified.inference.model import load_model, require_marks
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.stored_model import is_ensemble

#: Prefixes of metrics of findings, the lesions that reports list: with their own scores, and with
#: the highest of their answers.
LESION_TABLES = ("findings", "findings_plain")
#: The answers on a lesion of which the highest is its score without a fusion.
_PLAIN = [ANSWERS.index(name) for name in ("mask", "box", "mark")]


def evaluate_studies(
    checkpoint: Path,
    dataset: Mapping[str, Any],
    trust: bool = False,
    marks: Marks | None = None,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Metrics of slices, and FROC of lesions as reports would list them.

    ``findings/sensitivity_at_<rate>`` and ``findings/mean_sensitivity`` use the lesions' scores;
    ``findings/f1``, ``precision`` and ``recall`` count the lesions from the score that validation
    fixed. ``findings_plain/...`` use the highest of a lesion's answers, which is the same without
    a fusion.

    Args:
        checkpoint: of a single model or of an ensemble, with thresholds from validation.
        dataset: config of the test split.
        trust: load pickled code.
        marks: marks of a 3D model, by study; by default those of the ensemble's own, if it has one.
        resamples: largest number of resamples for intervals.

    Raises:
        CheckpointError: a member of the ensemble was trained on a study of the split, or its
            fusion was fitted with marks and there are none.
    """
    stored = load_checkpoint_safely(checkpoint, trust)
    if is_ensemble(stored):
        require_unseen(models_in(stored), dataset)
    model = load_model(checkpoint, trust)
    if marks is None and model.volumes is not None:
        marks = mark_exams(model.volumes, exams_of_split(dataset))
    require_marks(model, marks is not None)
    predictor = StudyPredictor(model)
    chosen = model.thresholds.by_metric
    found = measure_slices(predictor, dataset, "test slices", chosen, resamples=resamples)
    if not model.looks_for_lesions:
        return found
    threshold = stored["meta"].get("validated", {}).get("findings/threshold")
    lesions = measure_lesions(predictor, dataset, threshold, marks, resamples)
    return merged(found, lesions)


def measure_lesions(
    predictor: StudyPredictor,
    dataset: Mapping[str, Any],
    threshold: float | None = None,
    marks: Marks | None = None,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Only the metrics ``findings/...`` and ``findings_plain/...``, see :func:`evaluate_studies`.

    Args:
        threshold: lowest score of lesions that count for ``findings/f1``; None leaves it out.
    """
    exams = exams_of_split(dataset)
    readings = read_exams(predictor, exams, "reading test studies", marks)
    thresholds = {} if threshold is None else {"findings/threshold": threshold}
    found = Evaluation({}, thresholds, {})
    scored = (readings, [_plain(each) for each in readings])
    cuts = (threshold, None)
    for prefix, own_readings, cut in zip(LESION_TABLES, scored, cuts, strict=True):
        table = lesion_table(own_readings)
        if table is None:
            continue
        found.tables[prefix] = table
        statistic = table.statistic(threshold=cut)
        found.metrics.update(with_ends(estimate(statistic, table.units, resamples), f"{prefix}/"))
    return found


def _plain(reading: ExamReading) -> ExamReading:
    """The reading with the highest answer on each lesion as its score."""
    highest = np.nan_to_num(reading.answers[:, _PLAIN], nan=-np.inf).max(axis=1, initial=-np.inf)
    return replace(reading, score=expit(highest))
