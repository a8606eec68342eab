"""Inference with a volume model: a probability map and marks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_unified.ct.lung_crop import find_lung_grid
from pe_unified.ct.study import CTStudy
from pe_unified.ct.volume_grid import SpreadMap, VolumeGrid, levels_of
from pe_unified.errors import CheckpointError
from pe_unified.inference.lesion_marks import LesionMark
from pe_unified.inference.stored_model import StoredModel, read_model, usable_device
from pe_unified.models.volume_marks import find_marks
from pe_unified.models.volume_model import PEVolume
from pe_unified.precision import autocast, fastest_precision


@dataclass(frozen=True)
class VolumeModel:
    """A volume model from a checkpoint, ready for inference.

    Attributes:
        model: the model in evaluation mode, on its device.
        step_mm: spacing of its grid.
        threshold: probability from which on a voxel counts as embolus, chosen on validation; None
            if there was no validation.
        precision: ``"bf16"`` or ``"fp32"``.
        lineage: the model in reports: file, digest, step, parents, version.
    """

    model: PEVolume
    step_mm: float
    threshold: float | None
    precision: str
    lineage: dict[str, Any]


def load_volume_model(
    checkpoint: str | Path,
    trust: bool = False,
    device: str | None = None,
    precision: str | None = None,
) -> VolumeModel:
    """Load the volume model of a checkpoint, which has to mark emboli.

    Args:
        checkpoint: written by training or by ``pe-unified publish``.
        trust: unpickle code that the file may contain, and build types that are not registered.
        device: ``"cpu"``, ``"cuda"``...; by default the GPU if there is one.
        precision: ``"bf16"`` or ``"fp32"``; by default bf16 if the device supports it.

    Raises:
        CheckpointError: the checkpoint is unreadable or of another kind, finds only arteries, or
            its weights do not fit; or the device cannot be used.
    """
    return volume_model_of(
        checkpoint, read_model(Path(checkpoint), PEVolume, trust), device, precision
    )


def volume_model_of(
    path: str | Path,
    stored: StoredModel[PEVolume],
    device: str | None = None,
    precision: str | None = None,
) -> VolumeModel:
    """Like :func:`load_volume_model`, for a stored model; ``path`` is for messages."""
    if stored.model.lesion_head is None:
        raise CheckpointError(
            f"{path}: finds only arteries, no emboli to mark; give a model that has a "
            "lesion_head, such as volumes/aanet3d"
        )
    chosen = usable_device(device)
    return VolumeModel(
        model=stored.model.to(chosen),
        step_mm=float(stored.dataset.get("step_mm", 1.0)),
        threshold=stored.validated.get("lesion/threshold"),
        precision=precision or fastest_precision(chosen),
        lineage=stored.lineage,
    )


@dataclass(frozen=True, eq=False)
class VolumePrediction:
    """The prediction of a volume model for a study.

    Attributes:
        maps: probability maps by head, ``"lesion"`` and ``"artery"`` if the model has them, read
            slice by slice in the study's own voxels.
        points: float64 (marks, 3), slice, row and column index of every mark, best first.
        positions_mm: float64 (marks, 3), LPS coordinates of the marks.
        scores: float64 (marks,), probabilities.
    """

    maps: dict[str, SpreadMap]
    points: np.ndarray
    positions_mm: np.ndarray
    scores: np.ndarray

    def lesion_marks(self) -> list[LesionMark]:
        """The marks in the form used for lesions."""
        pairs = zip(self.positions_mm.tolist(), self.scores.tolist(), strict=True)
        return [LesionMark((x, y, z), probability) for (x, y, z), probability in pairs]


def predict_study(
    model: VolumeModel, study: CTStudy, grid: VolumeGrid | None = None
) -> VolumePrediction:
    """Predict emboli and arteries in the lungs of a study.

    Only the lungs on the model's grid are in memory, not the study: those of a study of 512 x 512 x
    300 voxels take about 1 GB at 1 mm, plus the network's memory for a window.

    Args:
        model: a volume model.
        study: the study, read slice by slice.
        grid: grid over the lungs, if already known; computed by default.

    Raises:
        DataError: the study is not a volume, or has no lungs.
    """
    grid = grid or find_lung_grid(study, model.step_mm)
    device = next(model.model.parameters()).device
    hu = np.empty(grid.shape, dtype=np.int16)
    for index, level in enumerate(levels_of(study.slice_hu, grid)):
        hu[index] = np.rint(level)
    batch = model.model.data_preprocessor({"inputs": [torch.from_numpy(hu)[None]]})
    with torch.inference_mode(), autocast(model.precision, device.type):
        found = model.model.probabilities(batch["inputs"])
    values = {head: each.cpu().numpy() for head, each in found.items()}
    marks = np.zeros((0, 4))
    if "lesion" in values:
        marks = find_marks(values["lesion"], grid.step_mm, **model.model.marks)
    points = grid.indices(marks[:, :3])
    return VolumePrediction(
        maps={head: SpreadMap(each, grid, study.shape) for head, each in values.items()},
        points=points,
        positions_mm=study.positions_mm(points),
        scores=marks[:, 3],
    )
