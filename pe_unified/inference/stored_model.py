"""Loading of a model from a checkpoint, with its preprocessing and lineage."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Generic, TypeVar

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.utils import import_modules_from_strings
from torch import nn

from pe_unified.checkpoints import config_of, load_checkpoint_safely, training_data
from pe_unified.datasets.slice_dataset import FINDINGS
from pe_unified.disclaimer import training_notice
from pe_unified.errors import CheckpointError, one_line
from pe_unified.image_network import without_start
from pe_unified.inference.fusing import fuse_batch_norms
from pe_unified.inference.sharing import key_of_levels, neighbours_of
from pe_unified.models.exam_model import PEExam
from pe_unified.models.known_parts import for_answers
from pe_unified.models.lung_detector import LungDetector
from pe_unified.models.slice_model import PEUnified
from pe_unified.models.volume_model import PEVolume
from pe_unified.registry import MODELS, TASK_UTILS, TRANSFORMS

Model = TypeVar("Model", bound=nn.Module)

#: Transforms that read files or labels; a study has its own slices and no labels.
_LOADERS = ("LoadCTSlice", "LoadPELabels", "LoadLungBox", "LoadExamSlices", "LoadVolume")
#: Description of each kind, and the command that takes it.
_KINDS: Mapping[type, tuple[str, str]] = {
    PEUnified: ("a model of slices", "pe-unified infer takes it as --checkpoint"),
    PEExam: ("a model of whole exams", "pe-unified infer takes it as --exam-checkpoint"),
    PEVolume: ("a model of volumes", "pe-unified marks and infer --volume-checkpoint take it"),
    LungDetector: ("a detector of lungs", "pe-unified infer takes it as --lung-checkpoint"),
}


@dataclass(frozen=True)
class StoredModel(Generic[Model]):
    """A model from a checkpoint, on the CPU.

    Attributes:
        model: the model in evaluation mode, with its weights.
        transforms: from Hounsfield units to the packed input.
        steps: makes the steps of an exam, for exam models.
        neighbours: slices on each side that are stacked with a slice, for slice models.
        key: see :func:`~pe_unified.inference.sharing.key_of_levels`.
        dataset: config of the test set.
        validated: choices and metrics from the validation split.
        lineage: the model in reports: file, digest, step, parents, version, card.
        fusion: values of a :class:`~pe_unified.evaluation.lesion_fusion.LesionFusion` for the score
            of lesions; None without one.
    """

    model: Model
    transforms: tuple[Any, ...]
    steps: Any
    neighbours: int
    key: str | None
    dataset: Mapping[str, Any]
    validated: Mapping[str, Any]
    lineage: dict[str, Any]
    fusion: Mapping[str, Any] | None = None


def is_ensemble(stored: Mapping[str, Any]) -> bool:
    """Whether a checkpoint has several models, as written by ``pe-unified ensemble``."""
    return "members" in stored


def read_model(path: Path, kind: type[Model], trust: bool = False) -> StoredModel[Model]:
    """Load the model of a checkpoint.

    Args:
        path: checkpoint with config, written by training or by ``pe-unified publish``.
        kind: the required kind of model.
        trust: unpickle code that the file may contain, and build types that are not registered.

    Raises:
        CheckpointError: the checkpoint is unreadable, without a config, unsafe, an ensemble, or of
            another kind or finding; or its weights do not fit.
    """
    return model_of(path, load_checkpoint_safely(path, trust), kind, trust)


def model_of(
    path: Path | str,
    stored: Mapping[str, Any],
    kind: type[Model],
    trust: bool = False,
    lineage: dict[str, Any] | None = None,
) -> StoredModel[Model]:
    """Like :func:`read_model`, for a checkpoint that is already loaded.

    Batch norms are fused into the preceding convolutions.

    Args:
        path: path of the file, or a description, for messages.
        stored: content of the checkpoint.
        lineage: lineage of the model; from the file by default.
    """
    if is_ensemble(stored):
        raise CheckpointError(
            f"{path}: is an ensemble, but a single model is needed; use one of its members"
        )
    own = config_of(stored)
    if own is None:
        raise CheckpointError(
            f"{path}: carries no config, so the model cannot be built; take a checkpoint that "
            "pe-unified train or pe-unified publish wrote"
        )
    meta = stored["meta"]
    with _told_as_of_another_version(path, meta):
        cfg = Config(dict(own))
        if trust and cfg.get("custom_imports"):
            import_modules_from_strings(**cfg.custom_imports)
        dataset = cfg.test_dataloader.dataset
        pipeline = [step for step in dataset.pipeline if step["type"] not in _LOADERS]
        steps = dict(dataset.get("steps") or {"type": "SliceSteps"})
        for_answers(path, cfg.model, pipeline, steps, trust=trust)
        without_start(cfg.model)
        with DefaultScope.overwrite_default_scope("pe_unified"):
            model = MODELS.build(cfg.model)
            require_kind(path, model, kind)
            if kind is not LungDetector:
                _require_embolism(path, dataset)
            transforms = tuple(TRANSFORMS.build(step) for step in pipeline)
            built_steps = TASK_UTILS.build(steps)
        model.load_state_dict(stored["state_dict"], strict=True)
        neighbours = int(dataset.get("neighbours", 0))
        looked_at = neighbours_of(built_steps) if kind is PEExam else neighbours
        key = key_of_levels(model, cfg.model, pipeline, looked_at)
        fuse_batch_norms(model.eval())
    return StoredModel(
        model=model,
        transforms=transforms,
        steps=built_steps,
        neighbours=neighbours,
        key=key,
        dataset=dataset,
        validated=meta.get("validated") or {},
        lineage=lineage or lineage_of(Path(path).name, digest_of(Path(path)), stored),
        fusion=meta.get("fusion"),
    )


@contextmanager
def _told_as_of_another_version(path: Path | str, meta: Mapping[str, Any]) -> Iterator[None]:
    """Report any error inside as a config that this version cannot build."""
    try:
        yield
    except CheckpointError:
        raise
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError, ImportError) as error:
        text = one_line(str(error))
        raise CheckpointError(
            f"{path}: the model cannot be built in this version "
            f"({type(error).__name__}: {text}); it was written by pe_unified "
            f"{meta.get('pe_unified', 'of unknown version')}"
        ) from error


def _require_embolism(path: Path | str, dataset: Mapping[str, Any]) -> None:
    """Reject a lung classifier, which has the same network as an embolism classifier."""
    label = dataset.get("label", "pe")
    if label != "pe":
        raise CheckpointError(
            f"{path}: answers whether a slice shows {FINDINGS.get(label, label)}, not whether it "
            "shows embolism; use a model that was trained on emboli (pe-unified extract "
            "exam/lung_scores takes this one)"
        )


def require_kind(path: Path | str, model: nn.Module, kind: type[nn.Module]) -> None:
    """Reject a model of another kind.

    Raises:
        CheckpointError: says what the model is, and which command takes it.
    """
    if isinstance(model, kind):
        return
    found = next((each for each in _KINDS if isinstance(model, each)), None)
    what, taker = _KINDS[found] if found else (f"a {type(model).__name__}", "")
    cure = f"; {taker}" if taker else ""
    raise CheckpointError(f"{path}: {what}, where {_KINDS[kind][0]} is needed{cure}")


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lineage_of(name: str, digest: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a checkpoint for reports.

    Args:
        name: name of its file.
        digest: SHA-256 of the file.
        stored: content of the checkpoint.
    """
    meta = stored["meta"]
    return {
        "checkpoint": name,
        "sha256": digest,
        "pe_unified": str(meta.get("pe_unified")),
        "step": meta.get("step"),
        "iterations": meta.get("iter"),
        "parents": [
            {**parent, "from": PureWindowsPath(str(parent.get("from"))).name}
            for parent in meta.get("parents") or ()
        ],
        "trained_on": [
            {key: value for key, value in each.items() if key not in ("studies", "licence")}
            for each in training_data(stored)
        ],
        "card": _in_short(meta.get("card")),
        "training_notice": training_notice(training_data(stored)),
    }


def _in_short(card: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Name and summary of a model card for reports; None for a model without one."""
    return {key: str(card[key]) for key in ("name", "summary")} if card else None


def usable_device(name: str | None) -> torch.device:
    """The device of that name; for None the GPU if there is one.

    Raises:
        CheckpointError: the device cannot be used.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA raises AssertionError
        raise CheckpointError(
            f"--device {name} cannot be used here ({one_line(str(error))}); take cpu, or cuda "
            "or cuda:0 where pe-unified doctor sees a GPU"
        ) from error
    return device
