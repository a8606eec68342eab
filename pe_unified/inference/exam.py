"""Inference with an exam model, in addition to the findings of a slice model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_unified.ct.exam_labels import EXAM_TARGETS, EXAM_WEIGHTS, with_sides_exchanged
from pe_unified.ct.lungs import share_of_every_slice
from pe_unified.datasets.exam_loading import with_stack
from pe_unified.datasets.exam_steps import Step, spread
from pe_unified.errors import CheckpointError
from pe_unified.evaluation.calibration import Calibration
from pe_unified.evaluation.consistency import check, repair
from pe_unified.evaluation.exams import positive_probability
from pe_unified.evaluation.intervals import FloatArray
from pe_unified.evaluation.verdict import DIGITS, as_written, threshold_as_written
from pe_unified.inference.reading import Progress, SliceReader, ahead
from pe_unified.inference.stored_model import read_model, usable_device
from pe_unified.inference.survey import Survey
from pe_unified.models.exam_model import PEExam
from pe_unified.options import BATCH_SIZE
from pe_unified.precision import autocast, fastest_precision


@dataclass(frozen=True)
class ExamModel:
    """An exam model from a checkpoint, ready for inference.

    Attributes:
        model: the model in evaluation mode, on its device; with an encoder and an exam head.
        transforms: from Hounsfield units (rows, cols, planes) to the packed input.
        steps: makes the steps of an exam.
        max_steps: largest number of steps, at equal distances; None for all.
        threshold: probability, before calibration, from which the exam is called positive; None if
            validation chose none.
        calibration: calibration of the probability that the exam is positive.
        precision: ``"bf16"`` or ``"fp32"``.
        lineage: the model in reports: file, digest, step, parents, version.
        key: see :func:`~pe_unified.inference.sharing.key_of_levels`.
    """

    model: PEExam
    transforms: tuple[Any, ...]
    steps: Any
    max_steps: int | None
    threshold: float | None
    calibration: Calibration
    precision: str
    lineage: dict[str, Any]
    key: str | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the model predicts, from EXAM_TARGETS."""
        head: Any = self.model.exam_head
        return head.labels

    def arithmetic(self) -> torch.autocast:
        """The context in which the network computes."""
        return autocast(self.precision, self.device.type)


def load_exam_model(
    checkpoint: str | Path,
    trust: bool = False,
    device: str | None = None,
    precision: str | None = None,
) -> ExamModel:
    """Load the exam model of a checkpoint.

    Args:
        checkpoint, trust, device, precision: as in :func:`~pe_unified.inference.model.load_model`.

    Raises:
        CheckpointError: as there; or the model reads stored features, or predicts no exam label.
    """
    path = Path(checkpoint)
    stored = read_model(path, PEExam, trust)
    if stored.model.encoder is None:
        raise CheckpointError(
            f"{path}: reads stored features, which a study does not have; pe-unified publish puts "
            "the encoder into it"
        )
    if stored.model.exam_head is None:
        raise CheckpointError(
            f"{path}: answers for single steps only; take a model with an exam head, such as one "
            "that was trained on the features of this one"
        )
    chosen, by_default = stored.validated, "exam/threshold_by_default" in stored.validated
    usable = usable_device(device)
    return ExamModel(
        model=stored.model.to(usable),
        transforms=stored.transforms,
        steps=stored.steps,
        max_steps=stored.dataset.get("max_steps"),
        threshold=None if by_default else threshold_as_written(chosen.get("exam/threshold")),
        calibration=Calibration.of(chosen),
        precision=precision or fastest_precision(usable),
        lineage=stored.lineage,
        key=stored.key,
    )


@dataclass(frozen=True, eq=False)
class ExamAnswer:
    """The predictions of an exam model for a study. Scores are rounded as in reports.

    Attributes:
        reason: why there is no prediction; empty if there is one.
        probability: raw probabilities of EXAM_TARGETS by name; None for labels not predicted.
        positive: probability that the exam is positive, as predicted or from "negative" and
            "indeterminate"; None if unknown. The threshold applies to it.
        calibrated: the same, calibrated on validation.
        called: whether ``positive`` reaches the threshold; None without either.
        labels: probabilities of EXAM_WEIGHTS by name, changed as little as possible to agree with
            each other and the steps.
        faults: descriptions of their contradictions before this change.
        notes: remarks on the prediction.
        slices: the slice that every step represents.
        z_mm: position of every step; None where unknown.
        step_probability: probability of embolism for every step; None if not predicted.
        attention: float (steps,) by label, share of each step; empty for models without attention.
    """

    reason: str = ""
    probability: Mapping[str, float | None] = field(
        default_factory=lambda: dict.fromkeys(EXAM_TARGETS)
    )
    positive: float | None = None
    calibrated: float | None = None
    called: bool | None = None
    labels: Mapping[str, float | None] = field(default_factory=lambda: dict.fromkeys(EXAM_WEIGHTS))
    faults: Sequence[str] = ()
    notes: Sequence[str] = ()
    slices: Sequence[int] = ()
    z_mm: Sequence[float | None] = ()
    step_probability: Sequence[float] | None = None
    attention: Mapping[str, FloatArray] = field(default_factory=dict)


@torch.inference_mode()
def predict_exam(
    model: ExamModel,
    reader: SliceReader,
    survey: Survey,
    progress: Progress | None = None,
    at_once: int = BATCH_SIZE,
    known: Mapping[int, torch.Tensor] | None = None,
) -> ExamAnswer:
    """The prediction for a study, with the same steps and transforms as in training.

    Steps are read and prepared in a thread while the network computes, so only the steps of a few
    passes are in memory.

    Args:
        reader: reader of the study.
        survey: gives the lungs, which determine steps and crop; without lungs there is no
            prediction.
        progress: called with the number of steps done and their total.
        at_once: steps in one pass.
        known: (width,) by slice, encoder features of steps that are known already; other steps are
            encoded.

    Raises:
        DataError: a slice cannot be read.
    """
    if survey.lungs is None:
        return ExamAnswer("no lungs were found, so it is not known which slices to look at")
    steps = steps_of_study(model, reader, survey)
    known = known or {}
    rows: dict[int, torch.Tensor] = {
        row: known[step.middle] for row, step in enumerate(steps) if step.middle in known
    }
    left = [row for row in range(len(steps)) if row not in rows]
    batches = [left[start : start + at_once] for start in range(0, len(left), at_once)]
    prepare = partial(_prepare, model, reader, survey)
    with model.arithmetic():
        for numbers, packed in ahead(lambda b: (b, prepare([steps[row] for row in b])), batches):
            batch = model.model.data_preprocessor({"inputs": [packed["inputs"]]})
            (found,) = model.model.encode(batch["inputs"], batch["mask"])
            rows |= zip(numbers, found, strict=True)
            if progress is not None:
                progress(len(rows), len(steps))
        joined = torch.stack([rows[row] for row in range(len(steps))])[None]
        mask = torch.ones(joined.shape[:2], dtype=torch.bool, device=joined.device)
        (found,) = model.model.answer(joined, mask)
    return _answer(model, found, steps, reader)


def steps_of_study(model: ExamModel, reader: SliceReader, survey: Survey) -> list[Step]:
    """The steps of the study, as in a converted set."""
    assert survey.lungs is not None
    study = reader.study
    places = range(0, len(study), survey.cell[0])
    shares = share_of_every_slice(survey.lungs.mean(axis=(1, 2)), places, len(study))
    slices = [
        {"z_mm": z_mm, "lung_share": share} for z_mm, share in zip(study.z_mm, shares, strict=True)
    ]
    steps = model.steps.steps_of(slices)
    return [steps[row] for row in spread(len(steps), model.max_steps)]


def _prepare(
    model: ExamModel, reader: SliceReader, survey: Survey, steps: Sequence[Step]
) -> dict[str, Any]:
    results: dict[str, Any] = {
        "planes": [step.planes for step in steps],
        "volumes": model.steps.volumes,
        "lung_box": survey.box,
        "spacing_mm": reader.study.spacing_mm,
    }
    results = with_stack(results, cache(reader.hu))
    for transform in model.transforms:
        results = transform(results)
    return results


def _answer(model: ExamModel, found: Any, steps: Sequence[Step], reader: SliceReader) -> ExamAnswer:
    """``found``: sample with the raw predictions."""
    study = reader.study
    answered = [name in model.labels for name in EXAM_TARGETS]
    exam = _numbers(found.pred_exam)
    attention = _numbers(found.attention) if "attention" in found else np.empty((10, 0))
    if study.columns_to_left < 0:  # left and right are exchanged in its images
        exam, attention = with_sides_exchanged(exam), with_sides_exchanged(attention)
    if np.isnan(exam[answered]).any():
        return ExamAnswer("its answers are NaN: the training of this model has diverged")
    exam = np.round(exam, DIGITS)
    probability = _named(EXAM_TARGETS, exam)
    per_step = np.round(_numbers(found.pred_steps), DIGITS) if "pred_steps" in found else None
    labels, faults, notes = exam[1:], [], _notes(model, steps)
    if per_step is None or np.isnan(labels).any():
        notes.append(
            "labels are not adjusted: that needs all nine labels and the answers for the steps"
        )
    else:
        faults = check(labels, per_step)
        labels = np.round(repair(labels, per_step, DIGITS)[0], DIGITS)
    positive = as_written(positive_probability(exam[None])[0])
    known = not np.isnan(positive)
    called = None if model.threshold is None or not known else positive >= model.threshold
    return ExamAnswer(
        probability=probability,
        positive=positive if known else None,
        calibrated=as_written(float(model.calibration.apply(positive))) if known else None,
        called=called,
        labels=_named(tuple(EXAM_WEIGHTS), labels),
        faults=faults,
        notes=notes,
        slices=[step.middle for step in steps],
        z_mm=[study.z_mm[step.middle] for step in steps],
        step_probability=None if per_step is None else per_step.tolist(),
        attention={
            name: row
            for name, row, own in zip(EXAM_TARGETS, attention, answered, strict=True)
            if own and len(row)
        },
    )


def _numbers(values: torch.Tensor) -> FloatArray:
    return values.double().cpu().numpy()


def _named(names: Sequence[str], values: FloatArray) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(names, values, strict=True)
    }


def _notes(model: ExamModel, steps: Sequence[Step]) -> list[str]:
    notes = []
    planes = steps[0].planes
    if model.steps.volumes and len(steps) == 1 and len(set(planes)) < len(planes):
        notes.append("the lungs are shorter than one chunk; its last plane is repeated")
    if getattr(model.steps, "scores", None):
        notes.append(
            "slices are those with most lung by their Hounsfield units; in training, a classifier "
            "of lung chose them"
        )
    return notes
