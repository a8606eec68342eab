"""A model as studies meet it, on the test split: by slices, and by lesions."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from pe_unified.checkpoints import load_checkpoint_safely
from pe_unified.engine.ensemble import require_unseen
from pe_unified.engine.evaluate import Evaluation
from pe_unified.engine.slice_answers import measure_slices
from pe_unified.evaluation.intervals import estimate
from pe_unified.evaluation.lesion_fusion import ANSWERS
from pe_unified.evaluation.metrics import RESAMPLES
from pe_unified.inference.converted import whole_exams
from pe_unified.inference.exam_readings import ExamReading, Marks, lesion_table, read_exams
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.stored_model import is_ensemble
from pe_unified.registry import DATASETS
from pe_unified.tasks import TASKS

#: Prefixes of what is measured of lesions.
LESION_TABLES = ("findings", "findings_plain")
#: Of the answers on a lesion, those of which the highest one is its score without a fusion.
_PLAIN = [ANSWERS.index(name) for name in ("mask", "box", "mark")]


def evaluate_studies(
    checkpoint: Path,
    dataset: Mapping[str, Any],
    trust: bool = False,
    marks: Marks | None = None,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Metrics of slices, and FROC of lesions as reports would list them.

    ``findings/sensitivity_at_<rate>`` and ``findings/mean_sensitivity`` are of the lesions' scores;
    ``findings_plain/...`` of the highest of their answers, which is the same without a fusion.

    Args:
        checkpoint: of a single model or of an ensemble, with thresholds from validation.
        dataset: config of the test split.
        trust: load pickled code.
        marks: of a model in 3D, by study.
        resamples: for intervals, at most.

    Raises:
        CheckpointError: a member of the ensemble learned from a study of the split.
    """
    stored = load_checkpoint_safely(checkpoint, trust)
    if is_ensemble(stored):
        require_unseen(stored, dataset)
    model = load_model(checkpoint, trust)
    own = model.thresholds
    by_task = {"cls": own.slice, "seg": own.pixel, "det": own.box}
    chosen = {f"{task}/threshold": by_task[task] for task in model.tasks if task in TASKS}
    predictor = StudyPredictor(model)
    found = measure_slices(predictor, dataset, "test slices", chosen, resamples=resamples)
    if not model.looks_for_lesions:
        return found
    settings = {**dataset, "needs": (), "every": 1, "pipeline": []}
    exams = whole_exams(DATASETS.build(settings))
    readings = read_exams(predictor, exams, "reading test studies", marks)
    metrics, tables = dict(found.metrics), dict(found.tables)
    scored = (readings, [_plain(each) for each in readings])
    for prefix, own_readings in zip(LESION_TABLES, scored, strict=True):
        table = lesion_table(own_readings)
        if table is None:
            continue
        tables[prefix] = table
        for name, each in estimate(table.statistic(), table.units, resamples).items():
            metrics[f"{prefix}/{name}"] = each.value
            metrics[f"{prefix}/{name}_ci"] = [each.low, each.high]
    return Evaluation(metrics, found.thresholds, tables, found.notice)


def _plain(reading: ExamReading) -> ExamReading:
    """With the highest answer on each lesion for its score."""
    highest = np.nan_to_num(reading.answers[:, _PLAIN], nan=-np.inf).max(axis=1, initial=-np.inf)
    return replace(reading, score=expit(highest))
