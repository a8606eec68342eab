"""A checkpoint for others to use: only the weights, with every threshold set on validation."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from mmengine.config import Config

from pe_unified.cards.card import make_card
from pe_unified.cards.data import describe_data
from pe_unified.cards.markdown import card_markdown
from pe_unified.checkpoints import config_of, load_checkpoint_safely, save_atomically, training_data
from pe_unified.disclaimer import unique
from pe_unified.engine.config import OF_THE_INPUT, OF_THE_NETWORK
from pe_unified.engine.evaluate import Evaluation, evaluate_checkpoint, validate_checkpoint
from pe_unified.engine.knobs import kind_of
from pe_unified.engine.study_choices import choose_on_exams, numbers_of
from pe_unified.engine.subgroups import subgroups_of
from pe_unified.engine.unseen import require_unseen
from pe_unified.engine.whole_exam_model import with_encoder
from pe_unified.errors import CheckpointError
from pe_unified.evaluation.intervals import warnings_of
from pe_unified.files import write_text
from pe_unified.inference.model import load_model
from pe_unified.json_files import write_json

#: Settings that describe the machine that the config ran on.
_PLACES = ("data_root", "structures", "work_dir", "load_from")
#: Top-level settings that belong to the command line of one run.
_OF_ONE_RUN = ("console_level", "launcher", "resume", "trust_checkpoint", "reuse")
#: Logs that need neither an account nor another package.
_COMMON_LOGS = ("LocalVisBackend", "TensorboardVisBackend")
#: Settings that the answers depend on.
_OF_ANSWERS = (
    *("model", "features", "val_evaluator", "test_evaluator"),
    *(*OF_THE_INPUT, *OF_THE_NETWORK),
)
#: Keys whose value is a file, a folder, a URL, or (``from``) a step.
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
    """Settings without the folders of this machine, which are private.

    Files of weights keep their names, and annotations their place in the data set.
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


def for_others(stored: Mapping[str, Any], settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """A checkpoint with only weights and lineage, and nothing about its maker's machine.

    Args:
        stored: a checkpoint written by training.
        settings: the config that it keeps; its own by default.

    Returns:
        ``meta`` and ``state_dict``.
    """
    keys = ("iter", "pe_unified", "step", "parents", "seed", "dataset_meta")
    meta = {key: stored["meta"].get(key) for key in keys}
    meta["trained_on"] = training_data(stored)
    settings = dict(config_of(stored) or {}) if settings is None else settings
    kept = _without_places({**meta, "cfg": _for_others(settings)})
    fixed = {key: stored["meta"].get(key) for key in ("validated", "fusion")}
    return {"meta": {**kept, **fixed}, "state_dict": stored["state_dict"]}


@dataclass(frozen=True)
class Published:
    """Results of publishing.

    Fields:
        validated: metrics and thresholds of the validation split, as stored in the file.
        tested: results on the test split; None if not requested.
    """

    validated: dict[str, Any]
    tested: Evaluation | None = None


def publish(
    cfg: Config, checkpoint: Path, out: Path, fuse: bool = False, test: bool = False
) -> Published:
    """Validate a checkpoint and write it with the thresholds chosen there, and with its card.

    The card is also written beside it, as ``<name>.card.md`` and ``<name>.card.json``.

    Args:
        cfg: config that it was trained with, with the data root to validate on.
        checkpoint: written by training.
        out: the new file; written completely or not at all.
        fuse: also fit the scores of lesions.
        test: measure the model on the test split, for the card.

    Raises:
        CheckpointError: the file holds only weights, or was trained on patients of the
            validation split or, with ``test``, of the test split.
    """
    trust = cfg.get("trust_checkpoint", False)
    stored = load_checkpoint_safely(checkpoint, trust)
    own = config_of(stored)
    if own is None or "state_dict" not in stored:
        raise CheckpointError(
            f"{checkpoint}: holds only weights, without a config; publish a checkpoint that "
            "pe-unified train or pe-unified steps wrote"
        )
    settings = _as_trained(cfg.to_dict(), own)
    if settings.get("features"):
        made = with_encoder(settings, stored["state_dict"], trust)
        settings = made.settings
        trained_on = unique([*made.trained_on, *training_data(stored)])
        meta = {**stored["meta"], "trained_on": trained_on}
        stored = {**stored, "meta": meta, "state_dict": made.tensors}
    judging = ("val", "test") if test else ("val",)
    require_unseen({str(checkpoint): stored}, *(cfg[f"{e}_dataloader"].dataset for e in judging))
    whole = copy.deepcopy(cfg)
    for split in judging:
        whole[f"{split}_dataloader"].dataset.every = 1
    validated = numbers_of(validate_checkpoint(whole, checkpoint))
    published = for_others(stored, settings)
    published["meta"] |= {"validated": validated, "fusion": None}
    of_lung = whole.val_dataloader.dataset.get("label", "pe") != "pe"
    if not of_lung and kind_of(cfg.model) == "PEUnified":
        candidate = out.with_name(f".{out.name}.candidate")
        try:
            save_atomically(published, candidate)
            model = load_model(candidate, trust)
        finally:
            candidate.unlink(missing_ok=True)
        chosen = choose_on_exams(model, whole.val_dataloader.dataset, fuse)
        validated |= chosen.thresholds
        published["meta"]["fusion"] = chosen.fusion and chosen.fusion.as_dict()
    # At the thresholds of the published file.
    tested = evaluate_checkpoint(whole, checkpoint, chosen=validated) if test else None
    data = describe_data(Path(whole.val_dataloader.dataset.data_root))
    card = make_card(out.stem, published, data, tested and _for_card(whole, tested))
    published["meta"]["card"] = card
    save_atomically(published, out)
    write_text(out.with_suffix(".card.md"), card_markdown(card))
    write_json(out.with_suffix(".card.json"), card)
    return Published(validated, tested)


def _for_card(cfg: Config, tested: Evaluation) -> dict[str, Any]:
    """The entries of a card on a test."""
    patients = {name for table in tested.tables.values() for name in table.patients}
    return {
        "patients": len(patients),
        "metrics": tested.metrics,
        "thresholds": tested.thresholds,
        "warnings": warnings_of(tested.tables),
        "subgroups": subgroups_of(tested, cfg.test_dataloader.dataset),
    }


def _as_trained(settings: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the training, but with the validation's settings that answers depend on.

    Args:
        settings: config of the validation.
        own: config of the training; has the losses, which validation does not need.
    """
    found = {key: value for key, value in own.items() if key not in _OF_ANSWERS}
    found |= {key: value for key, value in settings.items() if key in _OF_ANSWERS}
    for loader in ("val_dataloader", "test_dataloader"):
        if found.get(loader) and settings.get(loader):
            found[loader] = {**found[loader], "dataset": settings[loader]["dataset"]}
    for name, head in own["model"].items():
        if isinstance(head, Mapping) and "losses" in head and found["model"].get(name):
            found["model"][name]["losses"] = head["losses"]
    return found
