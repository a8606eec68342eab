"""A checkpoint for others to use: the weights alone, with every threshold fixed on validation."""

import copy
import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log

from pe_unified.engine.evaluate import validate_checkpoint
from pe_unified.engine.inputs import require_same_input
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
            of every slice. Left out are studies with an unknown label and no positive slice, and
            those of which slices are missing, whose neighbours in the list are none in the body.

    Returns:
        None where the studies are of one class.
    """
    names, labels, scores = [], [], []
    for name, slices in studies.items():
        indices, probability, steps, known = zip(*sorted(slices, key=lambda each: each[0]))
        if (np.diff(indices) != 1).any():
            continue
        positive = any(label == 1 for label in known)
        if positive or None not in known:
            names.append(name)
            labels.append(positive)
            scores.append(exam_probability(probability, steps[0]))
    return choose_threshold(SliceTable.build(names, labels, np.array(scores))) if names else None


#: What the config says of the machine that it ran on.
_PLACES = ("data_root", "work_dir", "load_from")
#: What a run is told on its command line, and what it says there, at the config's top level.
_OF_ONE_RUN = ("console_level", "launcher", "resume", "trust_checkpoint", "reuse")
#: Logs that need neither an account nor another package.
_COMMON_LOGS = ("LocalVisBackend", "TensorboardVisBackend")
#: What names a file, a URL, or (``from``) a step.
_FILES = ("pretrained", "checkpoint", "from")


def _for_others(settings: dict[str, Any]) -> dict[str, Any]:
    """A config from which others can train again: without the publisher's command line and logs."""
    kept = {key: value for key, value in settings.items() if key not in _OF_ONE_RUN}
    logs = [{"type": kind} for kind in _COMMON_LOGS]
    if "vis_backends" in kept:
        kept["vis_backends"] = logs
    if "visualizer" in kept:
        kept["visualizer"] = {**kept["visualizer"], "vis_backends": logs}
    return {**kept, "reuse": {}, "resume": False, "trust_checkpoint": False}


def _without_places(settings: Any, key: str = "") -> Any:
    """Settings without the folders of this machine, which are nobody else's business.

    Files that weights came from keep their names, and annotations their place in the data set.
    """
    if isinstance(settings, dict):
        return {
            key: None if key in _PLACES else _without_places(value, key)
            for key, value in settings.items()
        }
    if isinstance(settings, list | tuple):
        return type(settings)(_without_places(each, key) for each in settings)
    if isinstance(settings, str) and _tells_a_folder(settings, key):
        return PureWindowsPath(settings).name
    return settings


def _tells_a_folder(text: str, key: str) -> bool:
    if text.startswith(("/", "~", "..", "file:")) or PureWindowsPath(text).is_absolute():
        return True
    return key in _FILES and "://" not in text


def publish(
    cfg: Config, checkpoint: Path, out: Path, named: Collection[str] = ()
) -> dict[str, Any]:
    """Validate a checkpoint and write it with what was chosen there.

    Args:
        cfg: that it was trained with, with the data root to validate on.
        checkpoint: written by training.
        out: the new file; appears whole or not at all.
        named: dotted keys that the user set; the published input may differ in these from the
            one that the checkpoint was trained with.

    Returns:
        the metrics and thresholds of the validation split, as the file holds them.

    Raises:
        ConfigError: the input differs elsewhere.
    """
    stored = load_checkpoint_safely(checkpoint, trust=cfg.get("trust_checkpoint", False))
    require_same_input(cfg, checkpoint, stored, named)
    kept = _KeepSlices()
    whole = copy.deepcopy(cfg)
    whole.val_dataloader.dataset.every = 1
    validated = {
        key: value
        for key, value in validate_checkpoint(whole, checkpoint, hooks=[kept]).items()
        if isinstance(value, float | int)
    }
    threshold = exam_threshold(kept.studies)
    if threshold is not None:
        validated["exam/threshold"] = threshold
    elif kept.studies:
        print_log(
            "no threshold for exams: whole studies of both classes are not in the validation split",
            logger="current",
            level=logging.WARNING,
        )
    meta = {
        key: stored["meta"].get(key)
        for key in ("iter", "pe_unified", "step", "parents", "seed", "dataset_meta")
    }
    meta = _without_places({**meta, "cfg": _for_others(cfg.to_dict())})
    save_atomically(
        {"meta": {**meta, "validated": validated}, "state_dict": stored["state_dict"]}, out
    )
    return validated
