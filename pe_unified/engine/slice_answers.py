"""Metrics of a finished model on the slices of a converted set, measured as in training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData, PixelData

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.datasets.loading import LoadPELabels
from pe_unified.datasets.packing import PackPEInputs
from pe_unified.engine.evaluate import Evaluation, metrics_in
from pe_unified.evaluation.metrics import fix_thresholds
from pe_unified.inference.combining import SliceAnswer
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.reading import ahead
from pe_unified.progress import track
from pe_unified.registry import DATASETS, METRICS
from pe_unified.tasks import TASKS


def measure_slices(
    predictor: StudyPredictor,
    dataset: Mapping[str, Any],
    title: str,
    chosen: Mapping[str, Any] | None = None,
    every: int = 1,
    **options: Any,
) -> Evaluation:
    """Metrics of every task of the model, over the slices of a split.

    Slices are cropped to the lungs as recorded in the set, and no gate skips any.

    Args:
        predictor: holds the model.
        dataset: config of the split.
        title: title of the progress.
        chosen: thresholds by key, fixed before; None chooses them on this split.
        every: one slice in this many of each study is measured.
        options: options of the metrics.
    """
    settings = {**dataset, "needs": (), "every": every, "test_mode": True}
    settings |= {"pipeline": [dict(type="LoadCTSlice")], "neighbours": predictor.neighbours}
    slices = DATASETS.build(settings)
    kinds = [dict(type=TASKS[task].metric, **options) for task in predictor.model.tasks]
    evaluator = Evaluator([METRICS.build(kind) for kind in kinds])
    thresholds = {} if chosen is None else fix_thresholds(evaluator, chosen)
    starts = range(0, len(slices), predictor.batch_size)
    batches = [range(first, min(first + predictor.batch_size, len(slices))) for first in starts]

    def prepare(numbers: range) -> tuple[list[PEDataSample], list[list[dict[str, Any]]]]:
        items = [slices[number] for number in numbers]
        without_labels = {"label": None, "boxes": None, "instance_map": None}
        packed = predictor.prepare([{**item, **without_labels} for item in items])
        return [_truth(item) for item in items], packed

    for samples, packed in track(ahead(prepare, batches), title, len(batches)):
        for sample, answer in zip(samples, predictor.answer(packed), strict=True):
            _set_answer(sample, answer)
        evaluator.process(samples)
    metrics = evaluator.evaluate(len(slices))
    tables = {
        metric.prefix: metric.table for metric in metrics_in(evaluator) if metric.table is not None
    }
    kept = {key: value for key, value in metrics.items() if key not in thresholds}
    notice = predictor.model.lineage["training_notice"]
    return Evaluation(kept, thresholds, tables, notice)


def _truth(item: Mapping[str, Any]) -> PEDataSample:
    """The labels of a slice in its own pixels."""
    labelled = LoadPELabels().transform(dict(item))
    return PackPEInputs().transform({**labelled, "img": item["hu"]})["data_samples"]


def _set_answer(sample: PEDataSample, answer: SliceAnswer) -> None:
    if answer.probability is not None:
        both = torch.tensor([1 - answer.probability, answer.probability])
        sample.set_field(both, "pred_score")
    if answer.pixels is not None:
        sample.set_field(PixelData(data=answer.pixels[None]), "seg_prob")
    if answer.boxes is not None:
        scores: Sequence[float] | np.ndarray = answer.scores if answer.scores is not None else ()
        found = InstanceData(
            bboxes=torch.from_numpy(answer.boxes),
            scores=torch.as_tensor(np.asarray(scores)),
            labels=torch.zeros(len(answer.boxes), dtype=torch.int64),
        )
        sample.set_field(found, "pred_instances")
