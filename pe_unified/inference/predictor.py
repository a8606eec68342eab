"""A study through the network: one pass per slice, the costly heads only where they can matter."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.evaluation.segmentation import BINS, threshold_bin
from pe_unified.evaluation.slices import DEFAULT_THRESHOLD
from pe_unified.inference.exam import ExamModel, load_exam_model
from pe_unified.inference.model import InferenceModel, load_model
from pe_unified.inference.reading import Progress, SliceReader, ahead
from pe_unified.inference.survey import Survey
from pe_unified.memory import keep_freed_memory
from pe_unified.options import BATCH_SIZE


@dataclass(frozen=True, eq=False)
class SlicePrediction:
    """What the network says of one slice. Pixels are few, so they are kept as a list.

    Attributes:
        index: of the slice, from the feet.
        probability: of embolism; None where the model does not classify.
        examined: whether segmentation and detection looked at the slice.
        pixels: int32 (n,), row-major numbers of the pixels called embolus.
        pixel_probability: float32 (n,), of those pixels.
        boxes: float32 (k, 4), x1 y1 x2 y2 in pixels of the slice.
        scores: float32 (k,), of the boxes.
        features: (width,), what the exam model's encoder gives of the slice; None where it does
            not share the backbone.
    """

    index: int
    probability: float | None
    examined: bool
    pixels: np.ndarray
    pixel_probability: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    features: torch.Tensor | None = None


_NO_PIXELS = (np.empty(0, np.int32), np.empty(0, np.float32))
_NO_BOXES = (np.empty((0, 4), np.float32), np.empty(0, np.float32))


class StudyPredictor:
    """Runs a model over the slices of a study.

    Args:
        model: from :func:`~pe_unified.inference.model.load_model`.
        batch_size: slices in one pass.
        gate: leave segmentation and detection out on slices whose probability of embolism lies
            below the model's gate. Without a gate in the checkpoint every slice is examined.
        exam_model: answers for the whole exam, beside this one; None for no such answer. Where its
            backbone and all that goes before it are this model's, slices go through it once.
    """

    def __init__(
        self,
        model: InferenceModel,
        batch_size: int = BATCH_SIZE,
        gate: bool = True,
        exam_model: ExamModel | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, got {batch_size}")
        self.model = model
        self.exam_model = exam_model
        self.shares_backbone = exam_model is not None and _shares(model, exam_model)
        self.batch_size = batch_size
        self.wants_gate = gate
        #: Whether there is anything that a gate could spare.
        self.has_heads = bool(set(model.model.tasks) - {"cls"})
        usable = gate and "cls" in model.model.tasks and model.thresholds.gate is not None
        self.gate = model.thresholds.gate if usable else None
        pixel = model.thresholds.pixel
        self.pixel_threshold = threshold_bin(DEFAULT_THRESHOLD if pixel is None else pixel) / BINS
        box = model.thresholds.box
        self.box_threshold = DEFAULT_THRESHOLD if box is None else box

    @property
    def digests(self) -> tuple[str, str | None]:
        """SHA-256 of the checkpoints of the model and of the exam model."""
        exam = self.exam_model
        return self.model.lineage["sha256"], exam.lineage["sha256"] if exam else None

    def predict(
        self, reader: SliceReader, survey: Survey, progress: Progress | None = None
    ) -> list[SlicePrediction]:
        """Predictions for ``survey.slices``, in order.

        Slices are read and prepared in a thread while the network computes.

        Args:
            reader: of the study.
            survey: gives the crop and the slices worth looking at.
            progress: called with the slices done and their number.

        Raises:
            DataError: a slice that cannot be read.
        """
        wanted = survey.slices
        batches = [
            wanted[start : start + self.batch_size]
            for start in range(0, len(wanted), self.batch_size)
        ]
        found: list[SlicePrediction] = []
        prepare = partial(self.prepare_slice, reader=reader, box=survey.box)
        for numbers, packed in ahead(lambda b: (b, [prepare(each) for each in b]), batches):
            found += self.predict_batch(numbers, packed)
            if progress is not None:
                progress(len(found), len(wanted))
        return found

    def prepare_slice(
        self, number: int, reader: SliceReader, box: tuple[int, int, int, int] | None
    ) -> dict:
        """One slice as the network takes it, by the transforms that the model was trained with.

        Args:
            number: of the slice, from the feet.
            reader: of the study.
            box: (x, y, w, h) around the lungs, in pixels of the slice; None for no crop.
        """
        study = reader.study
        rows, cols = study.shape[1:]
        results = {
            "hu": reader.stack(number, self.model.neighbours),
            "ori_shape": (rows, cols),
            "img_shape": (rows, cols),
            "crop_box": (0, 0, cols, rows),
            "scale_factor": (1.0, 1.0),
            "lung_box": box,
            "spacing_mm": study.spacing_mm,
            "slice_index": number,
            "label": None,
            "boxes": None,
            "instance_map": None,
        }
        for transform in self.model.transforms:
            results = transform(results)
        return results

    @torch.inference_mode()
    def predict_batch(
        self, numbers: Sequence[int], packed: Sequence[dict]
    ) -> list[SlicePrediction]:
        """Predictions for slices prepared by :meth:`prepare_slice`."""
        network = self.model.model
        batch = network.data_preprocessor(
            {
                "inputs": [each["inputs"] for each in packed],
                "data_samples": [each["data_samples"] for each in packed],
            }
        )
        inputs, samples = batch["inputs"], batch["data_samples"]
        logits, levels = self.model.engine.trunk(inputs)
        features = self._features(levels, len(samples))
        probabilities: list[float | None] = [None] * len(samples)
        if logits is not None:
            classification: Any = network.head("cls")
            classification.set_scores(logits, samples)
            probabilities = [float(sample.pred_score[1]) for sample in samples]
        examined = [
            row
            for row, probability in enumerate(probabilities)
            if self.has_heads
            and (self.gate is None or probability is None or probability >= self.gate)
        ]
        if examined:
            if len(examined) < len(samples):
                levels = tuple(level[examined] for level in levels)
                inputs = inputs[examined]
            self._examine(levels, inputs, [samples[row] for row in examined])
        return [
            self._collect(number, sample, probability, row in examined, own)
            for row, (number, sample, probability, own) in enumerate(
                zip(numbers, samples, probabilities, features, strict=True)
            )
        ]

    def _features(
        self, levels: Sequence[torch.Tensor], slices: int
    ) -> Sequence[torch.Tensor | None]:
        """What the exam model takes of the backbone's levels, per slice."""
        if self.exam_model is None or not self.shares_backbone:
            return [None] * slices
        encoder: Any = self.exam_model.model.encoder
        with self.exam_model.arithmetic():
            return encoder.pooled(levels).unbind()

    def _examine(
        self, levels: Sequence[torch.Tensor], inputs: torch.Tensor, samples: Sequence[PEDataSample]
    ) -> None:
        """Segmentation and detection of slices that passed the gate, set on the samples."""
        network = self.model.model
        dense = self.model.engine.heads(levels, inputs)
        if dense.seg is not None:
            segmentation: Any = network.head("seg")
            segmentation.set_masks(dense.seg, samples, inputs.shape[-2:])
        if dense.pyramid:
            detection: Any = network.head("det")
            with self.model.arithmetic():
                detection.set_boxes(dense.pyramid, dense.rpn_scores, dense.rpn_offsets, samples)

    def _collect(
        self,
        number: int,
        sample: PEDataSample,
        probability: float | None,
        examined: bool,
        features: torch.Tensor | None,
    ) -> SlicePrediction:
        pixels, boxes = _NO_PIXELS, _NO_BOXES
        if "seg_prob" in sample:
            flat = sample.seg_prob.data.flatten()
            where = torch.nonzero(flat >= self.pixel_threshold).flatten()
            pixels = (where.to(torch.int32).cpu().numpy(), flat[where].float().cpu().numpy())
        if "pred_instances" in sample:
            found = sample.pred_instances
            kept = found.scores >= self.box_threshold
            boxes = (found.bboxes[kept].cpu().numpy(), found.scores[kept].cpu().numpy())
        return SlicePrediction(number, probability, examined, *pixels, *boxes, features)


def _shares(model: InferenceModel, exam: ExamModel) -> bool:
    """Whether the exam model's backbone would compute what the model's computes, as it does."""
    same = (model.key, model.precision, model.device) == (exam.key, exam.precision, exam.device)
    return same and model.key is not None and model.backend == "torch"


@dataclass(frozen=True)
class PredictorSettings:
    """Which model, and how it runs, before it is loaded; small enough to travel to workers.

    Fields as the arguments of :func:`~pe_unified.inference.model.load_model` and of
    :class:`StudyPredictor`; ``exam_checkpoint`` of
    :func:`~pe_unified.inference.exam.load_exam_model`.
    """

    checkpoint: str
    trust: bool = False
    device: str | None = None
    precision: str | None = None
    batch_size: int = BATCH_SIZE
    gate: bool = True
    backend: str = "torch"
    exported: Path | None = None
    exam_checkpoint: str | None = None

    def predictor(self) -> StudyPredictor:
        """The models loaded in this process, which keeps freed memory from now on."""
        keep_freed_memory()
        model = load_model(
            self.checkpoint,
            self.trust,
            self.device,
            self.precision,
            self.backend,
            self.exported,
        )
        exam = None
        if self.exam_checkpoint is not None:
            exam = load_exam_model(self.exam_checkpoint, self.trust, self.device, self.precision)
        return StudyPredictor(model, self.batch_size, self.gate, exam)
