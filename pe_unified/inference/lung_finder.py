"""The lung detector, ready for inference."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_unified.evaluation.slices import DEFAULT_THRESHOLD
from pe_unified.inference.reading import SliceReader, ahead, slice_of_study
from pe_unified.inference.stored_model import StoredModel, read_model, usable_device
from pe_unified.models.lung_detector import LungDetector
from pe_unified.progress import track

#: Slices in one pass; the inputs are small.
_AT_ONCE = 16


@dataclass(frozen=True)
class LungFinder:
    """Finds the boxes of lungs on slices.

    Attributes:
        model: the lung detector in evaluation mode, on its device.
        transforms: from Hounsfield units to the packed input.
        neighbours: slices on each side that are stacked with a slice.
        threshold: score from which on a box counts as lung, chosen on validation.
        lineage: the detector in reports.
    """

    model: LungDetector
    transforms: tuple[Any, ...]
    neighbours: int
    threshold: float
    lineage: dict[str, Any]

    @torch.inference_mode()
    def boxes(self, reader: SliceReader, slices: Sequence[int]) -> np.ndarray:
        """(slices, 4) x1 y1 x2 y2 in pixels, the best box on each; NaN if there is no lung.

        Raises:
            DataError: a slice cannot be read.
        """
        batches = [slices[first : first + _AT_ONCE] for first in range(0, len(slices), _AT_ONCE)]
        found: list[np.ndarray] = []

        def prepare(numbers: Sequence[int]) -> list[dict[str, Any]]:
            return [self._packed(reader, number) for number in numbers]

        for packed in track(ahead(prepare, batches), "looking for the lungs", len(batches)):
            samples = [each["data_samples"] for each in packed]
            inputs = [each["inputs"] for each in packed]
            for sample in self.model.test_step({"inputs": inputs, "data_samples": samples}):
                scores, own = sample.pred_instances.scores, sample.pred_instances.bboxes
                is_lung = len(scores) > 0 and float(scores.max()) >= self.threshold
                best = own[int(scores.argmax())].cpu().numpy() if is_lung else np.full(4, np.nan)
                found.append(best)
        return np.array(found, dtype=np.float64).reshape(-1, 4)

    def _packed(self, reader: SliceReader, number: int) -> dict[str, Any]:
        results = slice_of_study(reader, number, self.neighbours, None)
        for transform in self.transforms:
            results = transform(results)
        return results


def load_lung_finder(
    checkpoint: Path, trust: bool = False, device: str | None = None
) -> LungFinder:
    """The lung detector from a checkpoint of ``cascade/lung_detector``.

    Raises:
        CheckpointError: as in :func:`~pe_unified.inference.model.load_model`.
    """
    return lung_finder_of(read_model(checkpoint, LungDetector, trust), device)


def lung_finder_of(stored: StoredModel[LungDetector], device: str | None = None) -> LungFinder:
    """The lung detector from a stored model, on its device."""
    return LungFinder(
        model=stored.model.to(usable_device(device)),
        transforms=stored.transforms,
        neighbours=stored.neighbours,
        threshold=float(stored.validated.get("lung_box/threshold") or DEFAULT_THRESHOLD),
        lineage=stored.lineage,
    )
