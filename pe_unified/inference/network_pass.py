"""One network on a batch of slices: classification first, other heads only if requested."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.inference.combining import SliceAnswer
from pe_unified.inference.model import InferenceModel


@dataclass(frozen=True, eq=False)
class Classified:
    """A batch after backbone and classification; valid until the network's next batch.

    Attributes:
        probabilities: probability of embolism per slice; None if the network does not classify.
        levels: levels of the backbone.
        inputs: (n, channels, rows, cols), inputs of the network.
        samples: one per slice.
    """

    probabilities: Sequence[float | None]
    levels: tuple[Tensor, ...]
    inputs: Tensor
    samples: Sequence[PEDataSample]


class NetworkPass:
    """Runs a network from slices to predictions.

    Args:
        model: a slice model.
    """

    def __init__(self, model: InferenceModel) -> None:
        self.model = model
        #: Whether it has more heads than classification.
        self.has_heads = bool(set(model.tasks) - {"cls"})

    def prepare(self, results: dict[str, Any]) -> dict[str, Any]:
        """A slice prepared for the network by the transforms of its training.

        Args:
            results: from :func:`~pe_unified.inference.reading.slice_of_study` or a converted set;
                not changed. ``hu`` may have more neighbours than the network needs.
        """
        hu, extra = results["hu"], results["hu"].shape[-1] // 2 - self.model.neighbours
        results = {**results, "hu": hu[..., extra : hu.shape[-1] - extra]}
        for transform in self.model.transforms:
            results = transform(results)
        return results

    @torch.inference_mode()
    def classify(self, packed: Sequence[dict[str, Any]]) -> Classified:
        """Backbone and classification of slices from :meth:`prepare`."""
        network = self.model.model
        batch = network.data_preprocessor(
            {
                "inputs": [each["inputs"] for each in packed],
                "data_samples": [each["data_samples"] for each in packed],
            }
        )
        inputs, samples = batch["inputs"], batch["data_samples"]
        logits, levels = self.model.engine.trunk(inputs)
        probabilities: list[float | None] = [None] * len(samples)
        if logits is not None:
            classification: Any = network.head("cls")
            classification.set_scores(logits, samples)
            probabilities = [float(sample.pred_score[1]) for sample in samples]
        return Classified(probabilities, levels, inputs, samples)

    @torch.inference_mode()
    def answers(self, classified: Classified, rows: Sequence[int]) -> list[SliceAnswer]:
        """Predictions for every slice; pixels and boxes only for those at ``rows``."""
        if self.has_heads and rows:
            levels, inputs = classified.levels, classified.inputs
            if len(rows) < len(inputs):
                levels = tuple(level[rows] for level in levels)
                inputs = inputs[rows]
            self._examine(levels, inputs, [classified.samples[row] for row in rows])
        pairs = zip(classified.samples, classified.probabilities, strict=True)
        return [_answer(sample, probability) for sample, probability in pairs]

    def _examine(
        self, levels: Sequence[Tensor], inputs: Tensor, samples: Sequence[PEDataSample]
    ) -> None:
        """Set the segmentation and detection of the samples."""
        network = self.model.model
        dense = self.model.engine.heads(levels, inputs)
        if dense.seg is not None:
            segmentation: Any = network.head("seg")
            segmentation.set_masks(dense.seg, samples, inputs.shape[-2:])
        if dense.pyramid:
            detection: Any = network.head("det")
            with self.model.arithmetic():
                detection.set_boxes(dense.pyramid, dense.rpn_scores, dense.rpn_offsets, samples)


def _answer(sample: PEDataSample, probability: float | None) -> SliceAnswer:
    pixels = sample.seg_prob.data[0] if "seg_prob" in sample else None
    boxes = scores = None
    if "pred_instances" in sample:
        found = sample.pred_instances
        boxes, scores = (each.cpu().numpy() for each in (found.bboxes, found.scores))
    return SliceAnswer(probability, pixels, boxes, scores)
