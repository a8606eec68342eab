"""A checkpoint for others to use: the weights alone, with every threshold fixed on validation."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook

from pe_unified.engine.evaluate import validate_checkpoint
from pe_unified.engine.runner import save_atomically
from pe_unified.evaluation.exam_score import exam_probability
from pe_unified.evaluation.slices import SliceTable, choose_threshold
from pe_unified.models.weights import load_checkpoint_safely


class _KeepSlices(Hook):
    """Keeps what classification said of every slice, by study."""

    def __init__(self) -> None:
        self.studies: dict[str, list[tuple[int, float, float, int | None]]] = defaultdict(list)

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        for sample in outputs:
            if "pred_score" not in sample:
                continue
            name = f"{sample.patient_id} {sample.study_uid} {sample.series_uid}"
            step = (sample.spacing_mm or (None, None, None))[2] or 1.0
            label = int(sample.gt_label) if "gt_label" in sample else None
            score = float(sample.pred_score[1])
            self.studies[name].append((sample.slice_index, score, step, label))


def exam_threshold(studies: dict[str, list[tuple[int, float, float, int | None]]]) -> float | None:
    """The threshold on :func:`exam_probability` that is best by Youden's index.

    Args:
        studies: by study, slice index, probability, distance to the next slice in mm, and label
            of every slice. A study with an unknown label and no positive slice is left out.

    Returns:
        None where the studies are of one class.
    """
    names, labels, scores = [], [], []
    for name, slices in studies.items():
        _, probability, steps, known = zip(*sorted(slices, key=lambda each: each[0]))
        positive = any(label == 1 for label in known)
        if positive or None not in known:
            names.append(name)
            labels.append(positive)
            scores.append(exam_probability(probability, steps[0]))
    return choose_threshold(SliceTable.build(names, labels, np.array(scores))) if names else None


#: What the config says of the machine that it ran on.
_PLACES = ("data_root", "work_dir", "load_from", "reuse")


def _without_places(settings: Any) -> Any:
    """Settings without the paths of this machine, which are nobody else's business."""
    if isinstance(settings, dict):
        return {
            key: None if key in _PLACES else _without_places(value)
            for key, value in settings.items()
        }
    if isinstance(settings, list | tuple):
        return type(settings)(_without_places(each) for each in settings)
    return settings


def publish(cfg: Config, checkpoint: Path, out: Path) -> dict[str, Any]:
    """Validate a checkpoint and write it with what was chosen there.

    Args:
        cfg: that it was trained with, with the data root to validate on.
        checkpoint: written by training.
        out: the new file; appears whole or not at all.

    Returns:
        the metrics and thresholds of the validation split, as the file holds them.
    """
    stored = load_checkpoint_safely(checkpoint, trust=cfg.get("trust_checkpoint", False))
    kept = _KeepSlices()
    validated = {
        key: value
        for key, value in validate_checkpoint(cfg, checkpoint, hooks=[kept]).items()
        if isinstance(value, float | int)
    }
    threshold = exam_threshold(kept.studies)
    if threshold is not None:
        validated["exam/threshold"] = threshold
    meta = {
        key: stored["meta"].get(key)
        for key in ("iter", "pe_unified", "step", "parents", "seed", "dataset_meta")
    }
    meta["cfg"] = _without_places(cfg.to_dict())
    save_atomically(
        {"meta": {**meta, "validated": validated}, "state_dict": stored["state_dict"]}, out
    )
    return validated
