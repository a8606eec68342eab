"""Prediction for a study: one pass per slice, with expensive heads only where needed."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_unified.ct.study import CTStudy
from pe_unified.evaluation.coarse import coarse_slices, coarse_step, slices_between
from pe_unified.evaluation.segmentation import BINS, threshold_bin
from pe_unified.evaluation.slices import DEFAULT_THRESHOLD
from pe_unified.inference.combining import SliceAnswer, combine, pixel_votes
from pe_unified.inference.exam import ExamModel, load_exam_model
from pe_unified.inference.lung_finder import LungFinder, load_lung_finder
from pe_unified.inference.model import InferenceModel, Model, load_model, require_marks
from pe_unified.inference.network_pass import Classified, NetworkPass
from pe_unified.inference.reading import Progress, SliceReader, ahead, slice_of_study
from pe_unified.inference.slice_prediction import SlicePrediction
from pe_unified.inference.survey import Survey
from pe_unified.inference.volumes import VolumeModel, load_volume_model
from pe_unified.memory import keep_freed_memory
from pe_unified.options import BATCH_SIZE

_NO_PIXELS = (np.empty(0, np.int32), np.empty(0, np.float32))
_NO_BOXES = (np.empty((0, 4), np.float32), np.empty(0, np.float32))


def _passed_over(number: int) -> SlicePrediction:
    return SlicePrediction(number, None, False, *_NO_PIXELS, *_NO_BOXES, looked_at=False)


class StudyPredictor:
    """Runs a model on the slices of a study.

    The networks of an ensemble run one after the other on each batch, so that memory does not grow
    with the study.

    Args:
        model: from :func:`~pe_unified.inference.model.load_model`.
        batch_size: slices in one pass.
        gate: skip segmentation and detection on slices whose probability of embolism is below the
            model's gate, and read every second or third thin slice first (see
            :mod:`~pe_unified.evaluation.coarse`). Without gates in the checkpoint, every slice is
            read and examined.
        exam_model: a further model that classifies the exam; None for none. If its backbone and
            preprocessing are those of a network of ``model``, slices pass the backbone only once.
        lungs: lung detector for the crop; by default the model's own, if it has one.
        volume_model: volume model, whose marks join the lesions; by default the model's own, if it
            has one.
    """

    def __init__(
        self,
        model: Model,
        batch_size: int = BATCH_SIZE,
        gate: bool = True,
        exam_model: ExamModel | None = None,
        lungs: LungFinder | None = None,
        volume_model: VolumeModel | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, got {batch_size}")
        self.model = model
        self.networks = [NetworkPass(member.model) for member in model.members]
        self.ballots = [member.ballot for member in model.members]
        self.neighbours = max(member.model.neighbours for member in model.members)
        #: The networks that look for lesions; if several, reports list what each found.
        self.finders = [k for k, each in enumerate(model.members) if each.model.looks_for_lesions]
        self.exam_model = exam_model
        self.lungs = lungs or model.lungs
        self.volume_model = volume_model or model.volumes
        self._sharing = [
            exam_model is not None and _shares(each.model, exam_model) for each in model.members
        ]
        self.batch_size = batch_size
        self.wants_gate = gate
        #: Whether there are heads that a gate could skip.
        self.has_heads = any(network.has_heads for network in self.networks)
        usable = gate and "cls" in model.tasks and model.thresholds.gate is not None
        self.gate = model.thresholds.gate if usable else None
        # These models need every slice, or may put marks on a skipped one.
        whole = self.shares_backbone or self.volume_model is not None
        self.coarse_gate = model.thresholds.coarse_gate if usable and not whole else None
        pixel = model.thresholds.pixel
        self.pixel_threshold = threshold_bin(DEFAULT_THRESHOLD if pixel is None else pixel) / BINS
        box = model.thresholds.box
        self.box_threshold = DEFAULT_THRESHOLD if box is None else box

    def without_volumes(self) -> "StudyPredictor":
        """The same without a volume model, whose marks are read from a file instead."""
        other = copy.copy(self)
        other.volume_model = None
        return other

    @property
    def shares_backbone(self) -> bool:
        """Whether the exam model shares the backbone of one of the networks."""
        return any(self._sharing)

    @property
    def digests(self) -> tuple[str | None, ...]:
        """SHA-256 of model, exam model, lung detector, volume model; then the parts in int8."""
        models = (self.model, self.exam_model, self.lungs, self.volume_model)
        known = (None if each is None else each.lineage["sha256"] for each in models)
        return (*known, ", ".join(self.model.int8))

    def predict(
        self,
        reader: SliceReader,
        survey: Survey,
        progress: Progress | None = None,
        every_slice: bool = False,
    ) -> list[SlicePrediction]:
        """Predictions for ``survey.slices``, in order.

        Slices are read and prepared in a thread while the networks compute. Some thin slices are
        processed first, and those between them only if an enclosing slice reaches the coarse gate.

        Args:
            reader: reader of the study.
            survey: gives the crop and the relevant slices.
            progress: called with the number of slices done or skipped, and their total.
            every_slice: skip no slice.

        Raises:
            DataError: a slice cannot be read.
        """
        wanted = np.array(survey.slices)
        found: dict[int, SlicePrediction] = {}

        def prepare(numbers: list[int]) -> tuple[list[int], list[list[dict[str, Any]]]]:
            box = survey.box
            slices = [slice_of_study(reader, number, self.neighbours, box) for number in numbers]
            return numbers, self.prepare(slices)

        def look(numbers: list[int]) -> None:
            starts = range(0, len(numbers), self.batch_size)
            batches = [numbers[start : start + self.batch_size] for start in starts]
            for batch, packed in ahead(prepare, batches):
                found.update(zip(batch, self.predict_batch(batch, packed), strict=True))
                if progress is not None:
                    progress(len(found), len(wanted))

        every = 1 if every_slice else self._coarse_step(reader.study)
        first = coarse_slices(len(wanted), every)
        look(wanted[first].tolist())
        if len(first) < len(wanted) and self.coarse_gate is not None:
            reached = [found[number].reaches(self.coarse_gate) for number in wanted[first]]
            after = slices_between(first, np.array(reached))
            look(wanted[after].tolist())
            if progress is not None:
                progress(len(wanted), len(wanted))
        return [found.get(number) or _passed_over(number) for number in survey.slices]

    def _coarse_step(self, study: CTStudy) -> int:
        """The step between slices that are read first; 1 if their positions are unknown."""
        if self.coarse_gate is None or study.missing_slices or study.uneven_steps:
            return 1
        return coarse_step(study.known_spacing()[2])

    def prepare(self, slices: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """Slices prepared for each network: (networks, slices)."""
        return [[network.prepare(each) for each in slices] for network in self.networks]

    def predict_batch(
        self, numbers: Sequence[int], packed: Sequence[Sequence[dict[str, Any]]]
    ) -> list[SlicePrediction]:
        """Predictions for slices from :meth:`prepare`."""
        classified = [net.classify(own) for net, own in zip(self.networks, packed, strict=True)]
        features = self._features(classified, len(numbers))
        probabilities = [
            combine([SliceAnswer(each) for each in said], self.ballots, self.model.rule).probability
            for said in zip(*(own.probabilities for own in classified), strict=True)
        ]
        examined = [
            row
            for row, probability in enumerate(probabilities)
            if self.has_heads
            and (self.gate is None or probability is None or probability >= self.gate)
        ]
        answers = self._answers(classified, examined)
        return [
            self._collect(number, own, row in examined, features[row])
            for row, (number, own) in enumerate(zip(numbers, answers, strict=True))
        ]

    def answer(self, packed: Sequence[Sequence[dict[str, Any]]]) -> list[SliceAnswer]:
        """Predictions for slices from :meth:`prepare`, without gate and thresholds."""
        classified = [net.classify(own) for net, own in zip(self.networks, packed, strict=True)]
        answers = self._answers(classified, range(len(packed[0])))
        return [combine(own, self.ballots, self.model.rule) for own in answers]

    def _answers(
        self, classified: Sequence[Classified], rows: Sequence[int]
    ) -> list[tuple[SliceAnswer, ...]]:
        """Predictions of each network per slice; pixels and boxes only for those at ``rows``."""
        said = [
            network.answers(own, list(rows))
            for network, own in zip(self.networks, classified, strict=True)
        ]
        return list(zip(*said, strict=True))

    @torch.inference_mode()
    def _features(
        self, classified: Sequence[Classified], slices: int
    ) -> Sequence[torch.Tensor | None]:
        """Features for the exam model from a backbone's levels, per slice."""
        if self.exam_model is None or not self.shares_backbone:
            return [None] * slices
        encoder: Any = self.exam_model.model.encoder
        with self.exam_model.arithmetic():
            return encoder.pooled(classified[self._sharing.index(True)].levels).unbind()

    def _collect(
        self,
        number: int,
        answers: Sequence[SliceAnswer],
        examined: bool,
        features: torch.Tensor | None,
    ) -> SlicePrediction:
        """The prediction for a slice after the thresholds."""
        whole = combine(answers, self.ballots, self.model.rule)
        several = len(self.finders) > 1
        pixels, boxes, of_pixels, of_boxes = _NO_PIXELS, _NO_BOXES, None, None
        if whole.pixels is not None:
            flat = whole.pixels.flatten()
            where = torch.nonzero(flat >= self.pixel_threshold).flatten()
            pixels = (where.to(torch.int32).cpu().numpy(), flat[where].float().cpu().numpy())
            of_pixels = pixel_votes(answers, self.ballots, where) if several else None
        if whole.boxes is not None and whole.scores is not None and whole.box_votes is not None:
            kept = whole.scores >= self.box_threshold
            boxes = (whole.boxes[kept], whole.scores[kept])
            of_boxes = whole.box_votes[:, kept] if several else None
        return SlicePrediction(
            number, whole.probability, examined, *pixels, *boxes, features, of_pixels, of_boxes
        )


def _shares(model: InferenceModel, exam: ExamModel) -> bool:
    """Whether the exam model's backbone computes the same as the model's, in the same way."""
    same = (model.key, model.precision, model.device) == (exam.key, exam.precision, exam.device)
    return same and model.key is not None and model.backend == "torch"


@dataclass(frozen=True)
class PredictorSettings:
    """Settings of a predictor before loading; small enough to be sent to worker processes.

    Fields are the arguments of :func:`~pe_unified.inference.model.load_model` and of
    :class:`StudyPredictor`; ``exam_checkpoint`` is for
    :func:`~pe_unified.inference.exam.load_exam_model`, ``lung_checkpoint`` for
    :func:`~pe_unified.inference.lung_finder.load_lung_finder`, ``volume_checkpoint`` for
    :func:`~pe_unified.inference.volumes.load_volume_model`.
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
    lung_checkpoint: str | None = None
    volume_checkpoint: str | None = None

    def predictor(self, marks: bool = False) -> StudyPredictor:
        """Load the models in this process, which then keeps freed memory.

        Args:
            marks: whether there are marks from a file.

        Raises:
            CheckpointError: a model cannot be used, or needs marks and there are none.
        """
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
        lungs = None
        if self.lung_checkpoint is not None:
            lungs = load_lung_finder(Path(self.lung_checkpoint), self.trust, self.device)
        volumes = None
        if self.volume_checkpoint is not None:
            volumes = load_volume_model(
                self.volume_checkpoint, self.trust, self.device, self.precision
            )
        predictor = StudyPredictor(model, self.batch_size, self.gate, exam, lungs, volumes)
        require_marks(model, marks or predictor.volume_model is not None)
        return predictor
