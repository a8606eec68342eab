"""Fine-tune a published model on another set: config, training, thresholds, comparison."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from pe_unified.checkpoints import config_of, load_checkpoint_safely, newest_checkpoint, tensors_of
from pe_unified.engine.config import ConfigError, annotation_files, load_config
from pe_unified.engine.evaluate import Evaluation, evaluate_checkpoint, write_metrics
from pe_unified.engine.knobs import KNOBS
from pe_unified.engine.publish import publish
from pe_unified.engine.runner import PERunner
from pe_unified.engine.unseen import learned_patients
from pe_unified.errors import CheckpointError
from pe_unified.files import write_text
from pe_unified.image_network import without_start
from pe_unified.inference.stored_model import is_ensemble
from pe_unified.models.known_parts import for_training
from pe_unified.progress import say
from pe_unified.recipes.before_after import write_comparison
from pe_unified.registry import DATASETS, SCOPE

#: How often every slice is seen, and the fewest iterations.
PASSES, FEWEST = 4, 100
#: Factor on the learning rate that the model was trained with.
SHARE_OF_RATE = 0.1
#: Parts of a model's config that are kept for further training; all else is the package's own.
_PARTS = ("model", *(f"{split}_dataloader" for split in ("train", "val", "test")))
_METRICS = ("val_evaluator", "test_evaluator")
#: Top-level settings that govern these parts.
_KNOBS = (
    *("input_size", "lung_crop", "windows", "neighbours", "step_mm", "patch_size", "preset"),
    *("paste_emboli", "join_slices", "batch_size", "num_workers", "frozen_stages", "structures"),
    "accumulate",
)
#: Settings of the training set that leave out a part of its labels or of its exams.
_LEFT_OUT = ("masked_label_portion", "masked_label_mode", "masked_label_seed", "every")
_BASES = ("default_runtime.py", "schedules/adamw_cosine.py")
#: The published result, in the work dir.
RESULT = "finetuned.pth"


@dataclass(frozen=True)
class FinetuneOptions:
    """Options of the user.

    Fields:
        freeze: ``"backbone"`` or another part of the model, or a number of stages of its image
            network, not counting the stem; empty: everything learns.
        iterations: None derives the number from the data's size.
        lr: learning rate; None takes a tenth of the one that the model was trained with.
        resume: continue from the newest checkpoint of the work dir.
        overrides: further settings, by dotted key.
        trust: load pickled code, and build parts that are not registered.
    """

    freeze: str = ""
    iterations: int | None = None
    lr: float | None = None
    resume: bool = False
    overrides: Mapping[str, Any] | None = None
    trust: bool = False


def finetune(model: Path, data: Path, work_dir: Path, options: FinetuneOptions) -> dict[str, Any]:
    """Continue training a published model, publish the result, and compare both on the test split.

    Args:
        model: file of ``pe-unified publish``; no other file is needed.
        data: a converted set with all three splits.
        work_dir: folder for the config, checkpoints, ``finetuned.pth`` with its card, and
            ``comparison.json`` and ``comparison.md``.
        options: options of the user.

    Returns:
        the content of ``comparison.json``.

    Raises:
        CheckpointError: the file is an ensemble, has no config, or was trained on a patient
            of the validation or test split.
        ConfigError: an option does not fit the model, or the part to freeze has no weights.
    """
    stored = load_checkpoint_safely(model, options.trust)
    cfg = finetune_config(model, stored, data, work_dir, options)
    cfg.test_dataloader.dataset.every = 1  # before and after on the same slices
    known = len(learned_patients(stored, cfg.train_dataloader.dataset))
    if known:
        say(f"{model}: was already trained on {known} of the training patients")
    runner = PERunner.from_cfg(copy.deepcopy(cfg))
    if options.freeze and all(each.requires_grad for each in runner.network.parameters()):
        raise ConfigError(
            f"--freeze {options.freeze}: that part of {model} has no weights to freeze"
        )
    runner.train()
    checkpoint = newest_checkpoint(work_dir)
    assert checkpoint is not None
    result = work_dir / RESULT
    fuse = bool(stored["meta"].get("fusion"))
    after = publish(_quiet(cfg, work_dir / "after"), Path(checkpoint), result, fuse, test=True)
    before = evaluate_checkpoint(_quiet(cfg, work_dir / "before"), model)
    assert after.tested is not None
    _keep(work_dir / "before", before, model)
    _keep(work_dir / "after", after.tested, result)
    said = {
        "model": model.name,
        "frozen": options.freeze or None,
        "iterations": runner.iter,
        "batch_size": cfg.train_dataloader.batch_size,
        "learned_before": known,
    }
    return write_comparison(work_dir, {"before": before, "after": after.tested}, said)


def finetune_config(
    model: Path, stored: Mapping[str, Any], data: Path, work_dir: Path, options: FinetuneOptions
) -> Config:
    """The config of the training, also written into the work dir as ``finetune.py``.

    Network, losses, input, augmentation, sampling and metrics are the model's, but all exams and
    labels are used. Optimiser, schedule and hooks are the package's: those of an unknown file could
    write anywhere.
    """
    own = config_of(stored)
    if is_ensemble(stored):
        raise CheckpointError(f"{model}: is an ensemble; fine-tune its members and join them again")
    if own is None:
        raise CheckpointError(
            f"{model}: contains no config; use a file of pe-unified publish or pe-unified train"
        )
    lacking = [part for part in (*_PARTS, *_METRICS) if not own.get(part)]
    if lacking:
        raise CheckpointError(f"{model}: its config has no {', '.join(lacking)} to train on with")
    parts = copy.deepcopy({key: own[key] for key in (*_PARTS, *_METRICS, *_KNOBS) if key in own})
    parts["data_root"] = None
    for key in _LEFT_OUT:
        parts["train_dataloader"]["dataset"].pop(key, None)
    for_training(model, *(parts[each] for each in (*_PARTS, *_METRICS)), trust=options.trust)
    without_start(parts["model"])
    if options.trust and own.get("custom_imports"):
        parts["custom_imports"] = own["custom_imports"]
    path = work_dir / "finetune.py"
    bases = [f"pe_unified::_base_/{name}" for name in _BASES]
    write_text(path, f"_base_ = {bases!r}\n{Config(parts).pretty_text}")
    overrides = {**_frozen(parts, options.freeze, model), **(options.overrides or {})}
    cfg = load_config(path, overrides, str(data))
    annotation_files(cfg, "train", "val", "test")
    init_default_scope(SCOPE)
    items = len(DATASETS.build(cfg.train_dataloader.dataset))
    schedule = _schedule(own, cfg, items, options)
    cfg = load_config(path, {**schedule, **overrides}, str(data))
    modules = sorted({name.partition(".")[0] for name in tensors_of(stored)})
    cfg.reuse = {module: str(model) for module in modules}
    cfg.work_dir, cfg.resume = str(work_dir), options.resume
    cfg.trust_checkpoint = options.trust
    return cfg


def _schedule(
    own: Mapping[str, Any], cfg: Config, items: int, options: FinetuneOptions
) -> dict[str, Any]:
    """Overrides for iterations (by the data's size if not given), rate, warm-up and intervals."""
    iterations = options.iterations
    if iterations is None:
        wanted = round(PASSES * items / cfg.train_dataloader.batch_size)
        iterations = min(max(wanted, FEWEST), int(own.get("max_iters") or wanted))
    rate = SHARE_OF_RATE * float(own.get("lr") or cfg.lr) if options.lr is None else options.lr
    return {
        "max_iters": iterations,
        "lr": rate,
        "warmup_iters": iterations // 10,
        "train_cfg.val_interval": max(1, iterations // 2),
        "default_hooks.checkpoint.interval": max(1, iterations // 10),
    }


def _frozen(parts: Mapping[str, Any], freeze: str, model: Path) -> dict[str, Any]:
    """Overrides that freeze what the user wants, and nothing else."""
    stages = [
        "frozen_stages" if "frozen_stages" in parts else place.path
        for place in KNOBS["frozen_stages"].places(Config(dict(parts)))
    ]
    found: dict[str, Any] = dict.fromkeys(stages, -1)
    if parts["model"].get("frozen"):
        found["model.frozen"] = []
    if not freeze:
        return found
    if not freeze.isdecimal():
        if not parts["model"].get(freeze):
            known = ", ".join(
                key
                for key, part in parts["model"].items()
                if isinstance(part, Mapping) and "type" in part and key != "data_preprocessor"
            )
            raise ConfigError(f"--freeze {freeze}: {model} has no such part; it has {known}")
        return {**found, "model.frozen": [freeze]}
    if not stages:
        raise ConfigError(f"--freeze {freeze}: the network of {model} has no stages")
    return {**found, **dict.fromkeys(stages, int(freeze))}


def _quiet(cfg: Config, work_dir: Path) -> Config:
    """A config for tests without log on the console; results are shown together."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir, cfg.console_level = str(work_dir), "WARNING"
    return cfg


def _keep(folder: Path, evaluation: Evaluation, checkpoint: Path) -> None:
    write_metrics(folder / "metrics.json", evaluation, checkpoint=checkpoint.name)
    for prefix, table in evaluation.tables.items():
        table.save(folder / f"{prefix}.npz")
