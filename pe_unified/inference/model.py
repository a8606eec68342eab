"""A model of slices made ready to answer: network, preprocessing and thresholds out of one file."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pe_unified.checkpoints import CheckpointError
from pe_unified.datasets.slice_transforms import ResizeSlice
from pe_unified.evaluation.verdict import threshold_as_written
from pe_unified.inference.engines import Engine, exported_folder, open_engine
from pe_unified.inference.stored_model import read_model, usable_device
from pe_unified.models.slice_model import PEUnified
from pe_unified.precision import autocast, fastest_precision
from pe_unified.tasks import TASKS


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
        key: see :func:`~pe_unified.inference.sharing.key_of_levels`.
    """

    model: PEUnified
    transforms: tuple[Any, ...]
    neighbours: int
    thresholds: Thresholds
    precision: str
    engine: Engine
    lineage: dict[str, Any]
    key: str | None = None

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
    """Build the model of slices that a checkpoint describes, with its weights.

    Args:
        checkpoint: written by training or by ``pe-unified publish``; it carries its config.
        trust: unpickle code that the file may hold, and build types that are not registered.
        device: ``"cpu"``, ``"cuda"``...; the GPU where there is one by default.
        precision: ``"bf16"`` or ``"fp32"``; by default bf16 where the device computes in it.
        backend: ``"torch"``, ``"onnx"`` (fp32, on the CPU) or ``"openvino"`` (on the CPU).
        exported: folder that ``pe-unified export`` wrote; beside the checkpoint by default.

    Raises:
        CheckpointError: unreadable, without a config, unsafe, of another kind, or weights that do
            not fit; or the device cannot be used.
    """
    path = Path(checkpoint)
    stored = read_model(path, PEUnified, trust)
    chosen = usable_device(device or ("cpu" if backend != "torch" else None))
    if backend != "torch" and chosen.type != "cpu":
        raise CheckpointError(f"--backend {backend} computes on the CPU, not on '{chosen}'")
    if backend == "onnx" and precision == "bf16":
        raise CheckpointError("--backend onnx computes in fp32; --backend openvino supports bf16")
    arithmetic = precision or ("fp32" if backend == "onnx" else fastest_precision(chosen))
    model = stored.model.to(chosen)
    folder = exported or exported_folder(path, backend)
    return InferenceModel(
        model=model,
        transforms=stored.transforms,
        neighbours=stored.neighbours,
        thresholds=_thresholds(stored.validated, model.tasks),
        precision=arithmetic,
        engine=open_engine(backend, model, arithmetic, folder, stored.lineage["sha256"]),
        lineage={**stored.lineage, "tasks": list(model.tasks)},
        key=stored.key,
    )


def _thresholds(chosen: Mapping[str, Any], tasks: Collection[str]) -> Thresholds:
    origin = "validation split" if chosen else "none: the checkpoint was never validated"
    defaults = [TASKS[task].threshold for task in tasks if chosen and _by_default(task, chosen)]
    if defaults:
        origin += f"; at their defaults, as it cannot choose them: {', '.join(defaults)}"
    return Thresholds(
        slice=chosen.get("cls/threshold"),
        pixel=chosen.get("seg/threshold"),
        box=chosen.get("det/threshold"),
        gate=chosen.get("cls/gate"),
        exam=threshold_as_written(chosen.get("exam/stretch_threshold")),
        lesion=threshold_as_written(chosen.get("exam/lesion_threshold")),
        origin=origin,
    )


def _by_default(task: str, chosen: Mapping[str, Any]) -> bool:
    return f"{task}/threshold" not in chosen or f"{task}/threshold_by_default" in chosen
