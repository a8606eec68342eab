"""A checkpoint made ready to answer: model, preprocessing and thresholds out of one file."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.utils import import_modules_from_strings

from pe_unified.datasets.slice_transforms import ResizeSlice
from pe_unified.disclaimer import training_notice
from pe_unified.errors import one_line
from pe_unified.evaluation.verdict import threshold_as_written
from pe_unified.inference.engines import Engine, exported_folder, open_engine
from pe_unified.inference.fusing import fuse_batch_norms
from pe_unified.models.image_network import without_start
from pe_unified.models.known_parts import for_answers
from pe_unified.models.slice_model import PEUnified
from pe_unified.models.weights import (
    CheckpointError,
    config_of,
    load_checkpoint_safely,
    training_data,
)
from pe_unified.precision import autocast, fastest_precision
from pe_unified.registry import MODELS, TRANSFORMS
from pe_unified.tasks import TASKS

#: Read files or labels; a study brings its own slices and has no labels.
_LOADERS = ("LoadCTSlice", "LoadPELabels")


@dataclass(frozen=True)
class Thresholds:
    """Operating thresholds, None where the checkpoint has none.

    Attributes:
        slice: best on single slices; the verdict on an exam does not use it.
        pixel: probability at which a pixel is part of a lesion.
        box: score at which a box is kept.
        gate: slices below it skip segmentation and detection.
        exam: mean probability over 6 mm at which a stretch of an exam is called.
        lesion: score at which a lesion is called.
        origin: where they were fixed, in words.
    """

    slice: float | None = None
    pixel: float | None = None
    box: float | None = None
    gate: float | None = None
    exam: float | None = None
    lesion: float | None = None
    origin: str = ""


@dataclass(frozen=True)
class InferenceModel:
    """What a checkpoint holds, ready for studies.

    Attributes:
        model: in evaluation mode, on its device.
        transforms: from Hounsfield units (rows, cols, slices) to the packed input.
        neighbours: slices on each side that the network sees with a slice.
        thresholds: fixed on validation.
        precision: ``"bf16"`` or ``"fp32"``.
        engine: computes the dense part of the network.
        lineage: what the report says of the model: file, digest, step, parents, version.
    """

    model: PEUnified
    transforms: tuple[Any, ...]
    neighbours: int
    thresholds: Thresholds
    precision: str
    engine: Engine
    lineage: dict[str, Any]

    @property
    def backend(self) -> str:
        return self.engine.name

    @property
    def looks_for_lesions(self) -> bool:
        """Whether it outlines lesions or boxes them."""
        return not {"seg", "det"}.isdisjoint(self.model.tasks)

    @property
    def size(self) -> tuple[int, int]:
        """(rows, cols) of the network's input, its padding included.

        Raises:
            CheckpointError: the pipeline does not fix one.
        """
        for transform in self.transforms:
            if isinstance(transform, ResizeSlice):
                rows, cols = map(self.model.data_preprocessor.padded, transform.size)
                return rows, cols
        raise CheckpointError("the pipeline has no ResizeSlice, so the input has no fixed size")

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def arithmetic(self) -> torch.autocast:
        """The context in which the network computes."""
        return autocast(self.precision, self.device.type)


def load_model(
    checkpoint: str | Path,
    trust: bool = False,
    device: str | None = None,
    precision: str | None = None,
    backend: str = "torch",
    exported: Path | None = None,
) -> InferenceModel:
    """Build the model that a checkpoint describes, with its weights.

    Convolutions take in the batch norm that follows them.

    Args:
        checkpoint: written by training or by ``pe-unified publish``; it carries its config.
        trust: unpickle code that the file may hold, and build types that are not registered.
        device: ``"cpu"``, ``"cuda"``...; the GPU where there is one by default.
        precision: ``"bf16"`` or ``"fp32"``; by default bf16 where the device computes in it.
        backend: ``"torch"``, ``"onnx"`` (fp32, on the CPU) or ``"openvino"`` (on the CPU).
        exported: folder that ``pe-unified export`` wrote; beside the checkpoint by default.

    Raises:
        CheckpointError: unreadable, without a config, unsafe, or weights that do not fit; or the
            device cannot be used.
    """
    path = Path(checkpoint)
    stored = load_checkpoint_safely(path, trust)
    own = config_of(stored)
    if own is None:
        raise CheckpointError(
            f"{path}: carries no config, so the model cannot be built; take a checkpoint that "
            "pe-unified train or pe-unified publish wrote"
        )
    meta = stored["meta"]
    try:
        cfg = Config(dict(own))
        if trust and cfg.get("custom_imports"):
            import_modules_from_strings(**cfg.custom_imports)
        dataset = cfg.test_dataloader.dataset
        steps = [step for step in dataset.pipeline if step["type"] not in _LOADERS]
        for_answers(path, cfg.model, steps, trust=trust)
        without_start(cfg.model)
        with DefaultScope.overwrite_default_scope("pe_unified"):
            model = MODELS.build(cfg.model)
            transforms = tuple(TRANSFORMS.build(step) for step in steps)
        model.load_state_dict(stored["state_dict"], strict=True)
        fuse_batch_norms(model.eval())
    except CheckpointError:
        raise
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError, ImportError) as error:
        text = one_line(str(error))
        raise CheckpointError(
            f"{path}: its config does not give a model of this version "
            f"({type(error).__name__}: {text}); it was written by pe_unified "
            f"{meta.get('pe_unified', 'of unknown version')}"
        ) from error
    usual = "cuda" if backend == "torch" and torch.cuda.is_available() else "cpu"
    chosen = _usable_device(device or usual)
    if backend != "torch" and chosen.type != "cpu":
        raise CheckpointError(f"--backend {backend} computes on the CPU, not on '{chosen}'")
    if backend == "onnx" and precision == "bf16":
        raise CheckpointError("--backend onnx computes in fp32; --backend openvino supports bf16")
    arithmetic = precision or ("fp32" if backend == "onnx" else fastest_precision(chosen))
    model = model.eval().to(chosen)
    digest = _digest(path)
    folder = exported or exported_folder(path, backend)
    return InferenceModel(
        model=model,
        transforms=transforms,
        neighbours=int(dataset.get("neighbours", 0)),
        thresholds=_thresholds(meta, model.tasks),
        precision=arithmetic,
        engine=open_engine(backend, model, arithmetic, folder, digest),
        lineage={
            "checkpoint": path.name,
            "sha256": digest,
            "pe_unified": str(meta.get("pe_unified")),
            "step": meta.get("step"),
            "iterations": meta.get("iter"),
            "parents": [
                {**parent, "from": PureWindowsPath(str(parent.get("from"))).name}
                for parent in meta.get("parents") or ()
            ],
            "trained_on": training_data(stored),
            "training_notice": training_notice(training_data(stored)),
            "tasks": list(model.tasks),
        },
    )


def _usable_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise CheckpointError(
            f"--device {name} cannot be used here ({one_line(str(error))}); take cpu, or cuda "
            "or cuda:0 where pe-unified doctor sees a GPU"
        ) from error
    return device


def _thresholds(meta: Mapping[str, Any], tasks: Collection[str]) -> Thresholds:
    chosen = meta.get("validated") or {}
    origin = "validation split" if chosen else "none: the checkpoint was never validated"
    defaults = [TASKS[task].threshold for task in tasks if chosen and _by_default(task, chosen)]
    if defaults:
        origin += f"; at their defaults, as it cannot choose them: {', '.join(defaults)}"
    return Thresholds(
        slice=chosen.get("cls/threshold"),
        pixel=chosen.get("seg/threshold"),
        box=chosen.get("det/threshold"),
        gate=chosen.get("cls/gate"),
        exam=threshold_as_written(chosen.get("exam/threshold")),
        lesion=threshold_as_written(chosen.get("exam/lesion_threshold")),
        origin=origin,
    )


def _by_default(task: str, chosen: Mapping[str, Any]) -> bool:
    return f"{task}/threshold" not in chosen or f"{task}/threshold_by_default" in chosen


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
