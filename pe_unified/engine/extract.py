"""Extract features of every exam of a set with a trained encoder, and store them."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, get_dist_info, is_main_process
from mmengine.logging import print_log
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pe_unified.checkpoints import (
    load_checkpoint_safely,
    save_atomically,
    tensors_of,
    training_data,
)
from pe_unified.datasets.exam_dataset import PEExamDataset
from pe_unified.datasets.feature_store import FeatureSource, FeatureStore, digest_of_tensors
from pe_unified.datasets.slice_dataset import Draw
from pe_unified.engine.config import ConfigError, annotation_files
from pe_unified.engine.loaders import loaders_tell, watch_loader
from pe_unified.engine.part_errors import building
from pe_unified.engine.unseen import as_checkpoint, pretraining_data, require_unseen
from pe_unified.errors import UserError
from pe_unified.memory import keep_freed_memory
from pe_unified.models.exam_batches import STEPS_AT_ONCE, encode_steps
from pe_unified.models.weights import names_of_rule, reuse_weights, take_over
from pe_unified.precision import autocast
from pe_unified.progress import track
from pe_unified.registry import DATASETS, MODELS
from pe_unified.version import __version__


@dataclass(frozen=True)
class Extraction:
    """The result of an extraction.

    Fields:
        store: the features, with the network that made them.
        parents: where its weights come from, as ``reused`` of a summary.
        exams: number of exams that now have features.
        seconds: duration of this call.
    """

    store: FeatureStore
    parents: list[dict[str, Any]]
    exams: int
    seconds: float


def extract(cfg: Config, folder: Path, checkpoint: str | Path | None = None) -> Extraction:
    """Store the features of every exam in all splits of the set.

    All slices, also those of training exams, go through the test pipeline. Features from an
    earlier call are kept, so that a killed call can be resumed. An exam that cannot be read is
    reported once all others are done.

    Args:
        cfg: config of an exam model with an encoder; ``reuse`` says where its weights come from.
        folder: folder for the store.
        checkpoint: weights of the whole model, instead of ``reuse``.

    Raises:
        ConfigError: the model has no encoder, or nothing gives a part of it weights.
        CheckpointError: its weights were trained on patients of the validation or test split.
        UserError: exams could not be read; the features of all others are stored.
    """
    started = time.monotonic()
    keep_freed_memory()
    model, parents, trained_on = _model(cfg, checkpoint)
    dataset = cfg.test_dataloader.dataset
    name = str(checkpoint or "the weights of the encoder")
    require_unseen({name: as_checkpoint(trained_on)}, cfg.val_dataloader.dataset, dataset)
    source = FeatureSource(
        encoder=cfg.model.encoder.to_dict(),
        weights=digest_of_tensors(model.encoder.state_dict()),
        pipeline=[dict(step) for step in dataset.pipeline],
        steps=dict(dataset.get("steps") or {"type": "SliceSteps"}),
        normalisation=dict(cfg.model.get("data_preprocessor") or {}),
    )
    if is_main_process():
        store = FeatureStore.create(folder, source)
        meta = dict(pe_unified=__version__, cfg=cfg.to_dict(), iter=0, parents=parents)
        meta |= dict(step=cfg.get("step"), trained_on=trained_on, validated={})
        # Without heads: they may be untrained, and their answers would look like any others.
        tensors = {k: v for k, v in model.state_dict().items() if k.startswith("encoder.")}
        save_atomically({"meta": meta, "state_dict": tensors}, store.encoder)
    barrier()
    store = FeatureStore(folder / f"features-{source.key}")
    sets = [exams_of(cfg, split) for split in annotation_files(cfg, "train", "val", "test")]
    failed = [line for exams in sets for line in extract_set(cfg, model, exams, store)]
    barrier()
    if failed:
        more = f" (and {len(failed) - 1} more exams)" if len(failed) > 1 else ""
        raise UserError(f"{failed[0]}{more}; the features of all other exams are in {store.folder}")
    seconds = round(time.monotonic() - started, 1)
    return Extraction(store, parents, sum(map(len, sets)), seconds)


def _model(cfg: Config, checkpoint: str | Path | None) -> tuple[nn.Module, list[dict], list[dict]]:
    """The network, where its weights come from, and what they were trained on."""
    if not cfg.model.get("encoder"):
        raise ConfigError(
            f"{cfg.filename}: the model has no encoder, so there are no features to extract"
        )
    with building("model"):
        model = MODELS.build(cfg.model)
    trust = cfg.get("trust_checkpoint", False)
    if checkpoint is not None:
        stored = load_checkpoint_safely(checkpoint, trust)
        take_over(model, tensors_of(stored), "the config's model", str(checkpoint))
        parents = (stored.get("meta") or {}).get("parents")
        return model, list(parents or ()), training_data(stored)
    rules = {
        module: tuple(source) if isinstance(source, list) else source
        for module, source in (cfg.get("reuse") or {}).items()
    }
    if not rules and cfg.get("pretrained"):
        other = MODELS.build(cfg.model)
        for each in (model, other):
            each.init_weights()
        drawn = other.state_dict()  # at random, so only what is pretrained is the same in both
        left = [name for name, one in model.state_dict().items() if not one.equal(drawn[name])]
    else:
        given = tuple(f"{names_of_rule(rule)[0]}." for rule in rules)
        left = [name for name in model.state_dict() if not name.startswith(given)]
    left = [name for name in left if name.startswith("encoder.")]
    if left:
        raise ConfigError(
            f"{cfg.filename}: the encoder has no trained weights ({left[0]}); name the model by "
            "--checkpoint FILE, or a slice model by --reuse encoder.backbone:backbone=FILE"
        )
    reports = reuse_weights(model, rules, trust)
    trained_on = [dict(each) for report in reports for each in report.trained_on]
    trained_on += [] if rules else pretraining_data(cfg.model, trust)
    return model, [report.as_dict() for report in reports], trained_on


def exams_of(cfg: Config, split: str) -> PEExamDataset:
    """All exams of a split, labelled or not, read as in a test."""
    tested = cfg.test_dataloader.dataset
    own = {key: tested[key] for key in ("type", "pipeline", "steps") if key in tested}
    place = cfg[f"{split}_dataloader"].dataset
    settings = {**own, "data_root": place.data_root, "ann_file": place.ann_file}
    return DATASETS.build({**settings, "test_mode": True})


class _Readable(Dataset):
    """Exams by their number; for one that cannot be read, its error."""

    def __init__(self, exams: PEExamDataset, numbers: Sequence[int]) -> None:
        self.exams, self.numbers = exams, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Any] | UserError:
        try:
            return self.exams[Draw(self.numbers[index], 0)]
        except UserError as error:
            return error
        except FileNotFoundError as error:
            return UserError(str(error))


def extract_set(
    cfg: Config, model: nn.Module, exams: PEExamDataset, store: FeatureStore
) -> list[str]:
    """Store missing features of these exams; returns one line per exam that cannot be read."""
    names = [exams.get_data_info(number)["stored"] for number in range(len(exams))]
    missing = set(store.missing(names))
    rank, world_size = get_dist_info()
    # Each process has its own exams, whatever the others have stored in the meantime.
    own = range(rank, len(names), world_size)
    numbers = [number for number in own if names[number] in missing]
    loader = DataLoader(
        _Readable(copy.copy(exams), numbers),
        batch_size=None,
        num_workers=cfg.test_dataloader.get("num_workers", 0),
        collate_fn=None,
    )
    watch_loader(loader)
    device = torch.device(get_device())
    model = model.eval().to(device)
    precision = cfg.get("precision", "fp32")
    failed = []
    title = f"features of {Path(exams.ann_file).stem}"
    with torch.inference_mode(), autocast(precision, device.type), loaders_tell():
        for number, item in zip(numbers, track(loader, title, len(numbers)), strict=True):
            if isinstance(item, UserError):
                failed.append(str(item))
                print_log(f"left out: {item}", "current", level=30)
                continue
            store.write(names[number], _features(model, item))
    return failed


def _features(model: nn.Module, item: Mapping[str, Any]) -> np.ndarray:
    """The features of an exam, float32 (steps, width)."""
    sample = item["data_samples"]
    batch = model.data_preprocessor({"inputs": [item["inputs"]], "data_samples": [sample]})
    features = encode_steps(model.encoder, batch["inputs"], batch["mask"], STEPS_AT_ONCE)
    return features[0].float().cpu().numpy()
