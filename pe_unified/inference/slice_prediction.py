"""What a model says of one slice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class SlicePrediction:
    """The prediction for one slice. Embolus pixels are few, so they are kept as a list.

    Attributes:
        index: index of the slice, from the feet.
        probability: probability of embolism; None if the model does not classify or skipped the
            slice.
        examined: whether segmentation and detection were run on the slice.
        pixels: int32 (n,), row-major indices of the embolus pixels.
        pixel_probability: float32 (n,), probability of those pixels.
        boxes: float32 (k, 4), x1 y1 x2 y2 in pixels of the slice.
        scores: float32 (k,), scores of the boxes.
        features: (width,), features from the exam model's encoder; None if it does not share the
            backbone.
        pixel_votes: bool (networks, n), which networks found each pixel on their own; None if fewer
            than two networks look for lesions.
        box_votes: bool (networks, k), the same for boxes.
        looked_at: False for a slice that was skipped because neither enclosing slice reached the
            coarse gate; it has no prediction.
    """

    index: int
    probability: float | None
    examined: bool
    pixels: np.ndarray
    pixel_probability: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    features: "torch.Tensor | None" = None
    pixel_votes: np.ndarray | None = None
    box_votes: np.ndarray | None = None
    looked_at: bool = True

    def reaches(self, gate: float) -> bool:
        """Whether to read the slices next to it: it reaches the gate, or anything was found on it.

        Slices next to a finding are read because lesions are measured as a whole."""
        likely = self.probability is not None and self.probability >= gate
        return likely or bool(len(self.pixels) or len(self.boxes))


def probabilities_along(predictions: Sequence[SlicePrediction]) -> list[float]:
    """The probability of every slice, linearly interpolated between slices that were read.

    Args:
        predictions: from :meth:`~pe_unified.inference.predictor.StudyPredictor.predict`.

    Returns:
        One per slice; empty if the model does not classify.
    """
    pairs = [(each.index, each.probability) for each in predictions]
    known = [(index, value) for index, value in pairs if value is not None]
    if not known:
        return []
    places, values = zip(*known, strict=True)
    return np.interp([index for index, _ in pairs], places, values).tolist()
