"""A checkpoint for others to use: the weights alone, with every threshold fixed on validation."""

import copy
import logging
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from pe_unified.checkpoints import (
    CheckpointError,
    config_of,
    load_checkpoint_safely,
    save_atomically,
    training_data,
)
from pe_unified.disclaimer import unique
from pe_unified.engine.evaluate import validate_checkpoint
from pe_unified.engine.knobs import kind_of
from pe_unified.engine.whole_exam_model import with_encoder
from pe_unified.evaluation.verdict import choose_exam_thresholds
from pe_unified.inference.converted import judge_exams, whole_exams
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.registry import DATASETS

#: What the config says of the machine that it ran on.
_PLACES = ("data_root", "work_dir", "load_from")
#: What a run is told on its command line, and what it says there, at the config's top level.
_OF_ONE_RUN = ("console_level", "launcher", "resume", "trust_checkpoint", "reuse")
#: Logs that need neither an account nor another package.
_COMMON_LOGS = ("LocalVisBackend", "TensorboardVisBackend")
#: What names a file, a folder, a URL, or (``from``) a step.
_FILES = ("pretrained", "checkpoint", "from", "lung_scores", "scores")


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


def publish(cfg: Config, checkpoint: Path, out: Path) -> dict[str, Any]:
    """Validate a checkpoint and write it with what was chosen there.

    Args:
        cfg: that it was trained with, with the data root to validate on.
        checkpoint: written by training.
        out: the new file; appears whole or not at all.

    Returns:
        the metrics and thresholds of the validation split, as the file holds them.

    Raises:
        CheckpointError: the file holds weights alone.
    """
    stored = load_checkpoint_safely(checkpoint, trust=cfg.get("trust_checkpoint", False))
    own = config_of(stored)
    if own is None or "state_dict" not in stored:
        raise CheckpointError(
            f"{checkpoint}: holds weights alone; publish what pe-unified train or steps wrote"
        )
    whole = copy.deepcopy(cfg)
    whole.val_dataloader.dataset.every = 1
    validated = {
        key: value
        for key, value in validate_checkpoint(whole, checkpoint).items()
        if isinstance(value, float | int)
    }
    meta = {
        key: stored["meta"].get(key)
        for key in ("iter", "pe_unified", "step", "parents", "seed", "dataset_meta")
    }
    meta["trained_on"] = training_data(stored)
    settings, tensors = _with_losses(cfg.to_dict(), own), stored["state_dict"]
    if settings.get("features"):
        made = with_encoder(settings, tensors, cfg.get("trust_checkpoint", False))
        settings, tensors = made.settings, made.tensors
        meta["trained_on"] = unique([*made.trained_on, *meta["trained_on"]])
    meta = _without_places({**meta, "cfg": _for_others(settings)})
    published = {"meta": {**meta, "validated": validated}, "state_dict": tensors}
    of_lung = whole.val_dataloader.dataset.get("label", "pe") != "pe"
    if of_lung or kind_of(cfg.model) != "PEUnified":
        save_atomically(published, out)
        return validated
    candidate = out.with_name(f".{out.name}.candidate")
    try:
        save_atomically(published, candidate)
        validated |= exam_thresholds(whole, candidate)
    finally:
        candidate.unlink(missing_ok=True)
    save_atomically(published, out)
    return validated


def _with_losses(settings: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """With the losses of training, which validation does without."""
    for name, head in own["model"].items():
        if isinstance(head, Mapping) and "losses" in head and settings["model"].get(name):
            settings["model"][name]["losses"] = head["losses"]
    return settings


def exam_thresholds(cfg: Config, checkpoint: Path) -> dict[str, float]:
    """Thresholds of whole exams, chosen on what reports of the validation studies would say.

    Args:
        cfg: with the validation split.
        checkpoint: carries all other thresholds.

    Returns:
        ``exam/stretch_threshold``, ``exam/lesion_threshold``; fewer where the split cannot choose
        them. ``exam/threshold`` is that of a metric, which scores exams otherwise.
    """
    settings = {**cfg.val_dataloader.dataset, "needs": (), "every": 1, "pipeline": []}
    labels, exams = whole_exams(DATASETS.build(settings))
    if len(set(labels)) < 2:
        _warn("whole studies of both classes are not in the validation split")
        return {}
    model = load_model(checkpoint, cfg.get("trust_checkpoint", False))
    print_log(f"reading {len(exams)} validation studies as for a report", logger="current")
    chosen = choose_exam_thresholds(labels, judge_exams(StudyPredictor(model), exams))
    if chosen is None:
        _warn("on the validation split, no rule is better than chance")
        return {}
    found = {"exam/stretch_threshold": chosen.stretch, "exam/lesion_threshold": chosen.lesion}
    return {key: value for key, value in found.items() if value is not None}


def _warn(reason: str) -> None:
    print_log(f"no threshold for exams: {reason}", logger="current", level=logging.WARNING)
