"""The model of a checkpoint: a network with its preprocessing, or an ensemble."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from pe_unified.checkpoints import load_checkpoint_safely
from pe_unified.datasets.slice_transforms import ResizeSlice
from pe_unified.errors import CheckpointError
from pe_unified.evaluation.lesion_fusion import LesionFusion
from pe_unified.inference.combining import Ballot
from pe_unified.inference.engines import Engine, exported_folder, open_engine
from pe_unified.inference.lung_finder import LungFinder, lung_finder_of
from pe_unified.inference.stored_model import (
    StoredModel,
    digest_of,
    is_ensemble,
    lineage_of,
    model_of,
    read_model,
    usable_device,
)
from pe_unified.inference.thresholds import Thresholds, thresholds_of
from pe_unified.inference.volumes import VolumeModel, volume_model_of
from pe_unified.models.lung_detector import LungDetector
from pe_unified.models.slice_model import PEUnified
from pe_unified.models.volume_model import PEVolume
from pe_unified.precision import autocast, fastest_precision
from pe_unified.tasks import TASKS, look_for_lesions

Kind = TypeVar("Kind", bound=nn.Module)


@dataclass(frozen=True)
class InferenceModel:
    """A slice model from a checkpoint, ready for inference.

    Attributes:
        model: the model in evaluation mode, on its device.
        transforms: from Hounsfield units (rows, cols, slices) to the packed input.
        neighbours: slices on each side that are stacked with a slice.
        thresholds: thresholds chosen on validation.
        precision: ``"bf16"`` or ``"fp32"``.
        engine: computes the dense part of the network.
        lineage: the model in reports: file, digest, step, parents, version.
        key: see :func:`~pe_unified.inference.sharing.key_of_levels`.
        fusion: gives the score of lesions; None for the highest of their scores.
    """

    model: PEUnified
    transforms: tuple[Any, ...]
    neighbours: int
    thresholds: Thresholds
    precision: str
    engine: Engine
    lineage: dict[str, Any]
    key: str | None = None
    fusion: LesionFusion | None = None
    rule = "mean"  # irrelevant for a single network
    lungs = None
    volumes = None
    marked = False
    composition = None

    @property
    def backend(self) -> str:
        return self.engine.name

    @property
    def int8(self) -> Sequence[str]:
        """Parts of the network that compute in int8."""
        return self.engine.int8

    @property
    def tasks(self) -> tuple[str, ...]:
        """The model's tasks."""
        return self.model.tasks

    @property
    def looks_for_lesions(self) -> bool:
        """Whether it segments or detects lesions."""
        return look_for_lesions(self.tasks)

    @property
    def members(self) -> tuple["Member", ...]:
        """The model as the only member."""
        return (Member("", 1.0, self),)

    @property
    def size(self) -> tuple[int, int]:
        """(rows, cols) of the network's input, including padding.

        Raises:
            CheckpointError: the pipeline does not set a fixed size.
        """
        for transform in self.transforms:
            if isinstance(transform, ResizeSlice):
                rows, cols = map(self.model.data_preprocessor.padded, transform.size)
                return rows, cols
        raise CheckpointError(
            "the pipeline has no ResizeSlice, so the size of the input is not fixed"
        )

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def arithmetic(self) -> torch.autocast:
        """The context in which the network computes."""
        return autocast(self.precision, self.device.type)


@dataclass(frozen=True)
class Member:
    """One network of an ensemble.

    Attributes:
        name: name in reports.
        weight: weight of its predictions.
        model: the network, with its own thresholds for votes.
    """

    name: str
    weight: float
    model: InferenceModel

    @property
    def ballot(self) -> Ballot:
        own = self.model.thresholds
        chosen = {"slice": own.slice, "pixel": own.pixel, "box": own.box}
        return Ballot(self.weight, **{k: v for k, v in chosen.items() if v is not None})


@dataclass(frozen=True)
class Ensemble:
    """Several networks combined into one; see :mod:`~pe_unified.inference.combining`.

    Attributes:
        members: networks, each with some or all tasks.
        rule: ``"mean"`` or ``"vote"``.
        thresholds: thresholds of the combined predictions, chosen on validation.
        lineage: as in :class:`InferenceModel`.
        fusion: gives the score of lesions; None for the highest of their scores.
        lungs: the lung detector for the crop; None for the usual sources.
        volumes: the volume model whose marks join the lesions; None for none.
        marked: whether its thresholds were set with marks of a volume model.
    """

    members: tuple[Member, ...]
    rule: str
    thresholds: Thresholds
    lineage: dict[str, Any]
    fusion: LesionFusion | None = None
    lungs: LungFinder | None = None
    volumes: VolumeModel | None = None
    marked: bool = False
    backend = "torch"
    int8: Sequence[str] = field(default=(), init=False)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of all members, in the order of :data:`~pe_unified.tasks.TASKS`."""
        answered = {task for member in self.members for task in member.model.tasks}
        return tuple(task for task in TASKS if task in answered)

    @property
    def composition(self) -> dict[str, Any]:
        """The rule and the members, as reports give them."""
        told = ("checkpoint", "sha256", "pe_unified", "step", "iterations", "parents", "tasks")
        members = [
            {
                "name": member.name,
                "weight": member.weight,
                **{key: member.model.lineage[key] for key in told},
            }
            for member in self.members
        ]
        return {"rule": self.rule, "members": members}

    @property
    def looks_for_lesions(self) -> bool:
        """Whether a member segments or detects lesions."""
        return look_for_lesions(self.tasks)

    @property
    def device(self) -> torch.device:
        return self.members[0].model.device

    @property
    def precision(self) -> str:
        return self.members[0].model.precision


#: A model for studies.
Model = InferenceModel | Ensemble


def load_model(
    checkpoint: str | Path,
    trust: bool = False,
    device: str | None = None,
    precision: str | None = None,
    backend: str = "torch",
    exported: Path | None = None,
) -> Model:
    """Load the slice model or ensemble of a checkpoint.

    Args:
        checkpoint: written by training, by ``pe-unified publish`` or by ``pe-unified ensemble``.
        trust: unpickle code that the file may contain, and build types that are not registered.
        device: ``"cpu"``, ``"cuda"``...; by default the GPU if there is one.
        precision: ``"bf16"`` or ``"fp32"``; by default bf16 if the device supports it.
        backend: ``"torch"``, ``"onnx"`` (fp32, on the CPU) or ``"openvino"`` (on the CPU).
        exported: folder written by ``pe-unified export``; by default next to the checkpoint.

    Raises:
        CheckpointError: the checkpoint is unreadable, without a config, unsafe or of another kind,
            or its weights do not fit (for an ensemble, the message names the member); or the device
            or the backend cannot be used.
    """
    path = Path(checkpoint)
    stored = load_checkpoint_safely(path, trust)
    if not is_ensemble(stored):
        single = model_of(path, stored, PEUnified, trust)
        folder = exported or exported_folder(path, backend)
        return ready(single, device, precision, backend, folder)
    if backend != "torch":
        raise CheckpointError(f"{path}: an ensemble computes in torch, not by --backend {backend}")
    return ensemble_of(path, stored, trust, device, precision)


def require_marks(model: Model, given: bool) -> None:
    """Check that there are marks of a 3D model if the thresholds were set with them.

    Args:
        given: whether there are.

    Raises:
        CheckpointError: they are missing.
    """
    if model.marked and not given:
        raise CheckpointError(
            f"{model.lineage['checkpoint']}: its thresholds were set with marks of a 3D model; "
            "give the model by --volume-checkpoint, or its marks on these studies by --marks"
        )


def load_network(
    checkpoint: str | Path,
    trust: bool = False,
    device: str | None = None,
    precision: str | None = None,
) -> InferenceModel:
    """Like :func:`load_model`, for a single network; rejects an ensemble."""
    return ready(read_model(Path(checkpoint), PEUnified, trust), device, precision)


def ready(
    stored: StoredModel[PEUnified],
    device: str | None,
    precision: str | None,
    backend: str = "torch",
    exported: Path = Path(),
) -> InferenceModel:
    """A stored model on its device; arguments as in :func:`load_model`."""
    chosen = usable_device(device or ("cpu" if backend != "torch" else None))
    if backend != "torch" and chosen.type != "cpu":
        raise CheckpointError(f"--backend {backend} computes on the CPU, not on '{chosen}'")
    if backend == "onnx" and precision == "bf16":
        raise CheckpointError("--backend onnx computes in fp32; --backend openvino supports bf16")
    arithmetic = precision or ("fp32" if backend == "onnx" else fastest_precision(chosen))
    model = stored.model.to(chosen)
    return InferenceModel(
        model=model,
        transforms=stored.transforms,
        neighbours=stored.neighbours,
        thresholds=thresholds_of(stored.validated, model.tasks),
        precision=arithmetic,
        engine=open_engine(backend, model, arithmetic, exported, stored.lineage["sha256"]),
        lineage={**stored.lineage, "tasks": list(model.tasks)},
        key=stored.key,
        fusion=_fusion(stored.fusion),
    )


def ensemble_of(
    path: Path,
    stored: Mapping[str, Any],
    trust: bool = False,
    device: str | None = None,
    precision: str | None = None,
    digest: str | None = None,
) -> Ensemble:
    """The ensemble in a file written by ``pe-unified ensemble``.

    Args:
        path: path of the file, for messages.
        stored: content of the file.
        trust, device, precision: as in :func:`load_model`.
        digest: SHA-256 of the file; computed by default.
    """
    meta = stored["meta"]
    members = []
    for each in stored["members"]:
        place = f"{path}, member {each['name']}"
        single = _part(place, each, PEUnified, trust)
        members.append(Member(each["name"], each["weight"], ready(single, device, precision)))
    lungs, volumes = None, None
    if (each := stored.get("lungs")) is not None:
        place = f"{path}, its detector of lungs"
        lungs = lung_finder_of(_part(place, each, LungDetector, trust), device)
    if (each := stored.get("volumes")) is not None:
        place = f"{path}, its model of volumes"
        own = _part(place, each, PEVolume, trust)
        volumes = volume_model_of(place, own, device, precision)
    lineage = lineage_of(path.name, digest or digest_of(path), stored)
    whole = Ensemble(
        members=tuple(members),
        rule=meta["rule"],
        thresholds=Thresholds(),
        lineage=lineage,
        fusion=_fusion(meta["fusion"]),
        lungs=lungs,
        volumes=volumes,
        marked=bool(meta.get("marked")),
    )
    tasks = whole.tasks
    thresholds = thresholds_of(meta["validated"], tasks)
    return replace(whole, thresholds=thresholds, lineage={**lineage, "tasks": list(tasks)})


def _part(place: str, each: Mapping[str, Any], kind: type[Kind], trust: bool) -> StoredModel[Kind]:
    """A model that is part of an ensemble; ``place`` is for messages."""
    lineage = lineage_of(each["checkpoint"], each["sha256"], each["model"])
    return model_of(place, each["model"], kind, trust, lineage)


def _fusion(stored: Mapping[str, Any] | None) -> LesionFusion | None:
    return None if stored is None else LesionFusion.from_dict(stored)
