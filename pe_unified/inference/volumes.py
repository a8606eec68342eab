"""A study seen by a model of volumes: a map of probabilities, and marks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_unified.ct.lung_crop import find_lung_grid
from pe_unified.ct.study import CTStudy
from pe_unified.ct.volume_grid import SpreadMap, VolumeGrid, levels_of
from pe_unified.inference.lesion_marks import LesionMark
from pe_unified.inference.stored_model import read_model, usable_device
from pe_unified.models.volume_marks import find_marks
from pe_unified.models.volume_model import PEVolume
from pe_unified.precision import autocast, fastest_precision


@dataclass(frozen=True)
class VolumeModel:
    """What a checkpoint holds, ready for studies.

    Attributes:
        model: in evaluation mode, on its device.
        step_mm: of the grid that it sees.
        threshold: from which a voxel is called embolus, fixed on validation; None where it was not.
        precision: ``"bf16"`` or ``"fp32"``.
        lineage: what is said of the model: file, digest, step, parents, version.
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
    """Build the model of volumes that a checkpoint describes, with its weights.

    Args:
        checkpoint: written by training or by ``pe-unified publish``.
        trust: unpickle code that the file may hold, and build types that are not registered.
        device: ``"cpu"``, ``"cuda"``...; the GPU where there is one by default.
        precision: ``"bf16"`` or ``"fp32"``; by default bf16 where the device computes in it.

    Raises:
        CheckpointError: unreadable, of another kind, one that finds no emboli, or weights that do
            not fit; or the device cannot be used.
    """
    stored = read_model(Path(checkpoint), PEVolume, trust)
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
    """What a model of volumes says of a study.

    Attributes:
        maps: by head, ``"lesion"`` and ``"artery"`` as far as the model has them: probabilities,
            seen slice by slice in the study's own voxels.
        points: float64 (marks, 3), slice, row and column index of every mark, best first.
        positions_mm: float64 (marks, 3), LPS coordinates of the same.
        scores: float64 (marks,), probabilities.
    """

    maps: dict[str, SpreadMap]
    points: np.ndarray
    positions_mm: np.ndarray
    scores: np.ndarray

    def lesion_marks(self) -> list[LesionMark]:
        """The marks, as lesions take them."""
        pairs = zip(self.positions_mm.tolist(), self.scores.tolist(), strict=True)
        return [LesionMark((x, y, z), probability) for (x, y, z), probability in pairs]


def predict_study(
    model: VolumeModel, study: CTStudy, grid: VolumeGrid | None = None
) -> VolumePrediction:
    """Look at the lungs of a study.

    In memory are the lungs on the model's grid, not the study: those of a study of 512 x 512 x 300
    voxels take about 1 GB at 1 mm, what the network needs for a window apart.

    Args:
        model: of volumes.
        study: read slice by slice.
        grid: over the lungs, where it is known already; found by default.

    Raises:
        DataError: the study is no volume, or has no lungs.
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
