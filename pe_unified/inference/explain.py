"""Which part of a slice a model's answer rests on: Grad-CAM of slice models and of exam models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from pe_unified.evaluation.exams import POSITIVE
from pe_unified.models.cam import CamError, grad_cam, level_of
from pe_unified.models.exam_batches import STEPS_AT_ONCE
from pe_unified.models.exam_model import PEExam
from pe_unified.models.protocols import Levels
from pe_unified.models.slice_model import PEUnified
from pe_unified.options import BATCH_SIZE
from pe_unified.precision import autocast

#: In place of a label of the exam: whether a step shows embolism.
STEP = "step"
_APART_MM = 10.0


class SliceExplainer:
    """Heat of a slice model's classification, by the log-odds of embolism.

    Args:
        model: ready to answer, on its device; its parameters are frozen.
        level: of the backbone, finest first, or from -1, coarsest first.
        precision: ``"fp32"`` or ``"bf16"``.

    Raises:
        CamError: it does not classify, or has no such level.
    """

    def __init__(self, model: PEUnified, level: int = -1, precision: str = "fp32") -> None:
        if "cls" not in model.tasks:
            raise CamError(
                "the model has no classification head, whose answer heat explains (its heads: "
                f"{', '.join(model.tasks)}); take one with a cls_head"
            )
        self.model = model.requires_grad_(False)
        self.level = level_of(model.backbone, level)
        self.stride = model.backbone.feature_info.strides[self.level]
        self.precision = precision

    def probabilities(self, packed: Sequence[Mapping[str, Any]]) -> Tensor:
        """Of embolism, float32 (n,), of slices as the pipeline packs them."""
        with torch.no_grad(), _arithmetic(self):
            return self._log_odds(self.model.backbone(self._inputs(packed))).sigmoid().cpu()

    def heat(self, packed: Sequence[Mapping[str, Any]]) -> Tensor:
        """float32 (n, rows, cols) at the level's stride, from 0.

        Raises:
            CamError: the head does not read the level.
        """
        parts = self._inputs(packed).split(BATCH_SIZE)
        with _arithmetic(self):
            heat = [
                grad_cam(self.model.backbone, part, self.level, self._log_odds) for part in parts
            ]
        return torch.cat(heat).cpu()

    def _inputs(self, packed: Sequence[Mapping[str, Any]]) -> Tensor:
        return self.model.data_preprocessor({"inputs": [each["inputs"] for each in packed]})[
            "inputs"
        ]

    def _log_odds(self, levels: Sequence[Tensor]) -> Tensor:
        logits = self.model.head("cls")(levels)
        others = torch.cat([logits[:, :1], logits[:, 2:]], dim=1)
        return logits[:, 1] - others.logsumexp(dim=1)


@dataclass(frozen=True, eq=False)
class StepHeat:
    """Heat of those steps of an exam that bear most on an answer, first the one that does most.

    Attributes:
        steps: their numbers.
        heat: float32 (steps, rows, cols) at the level's stride, from 0; of the middle plane of a
            chunk of slices.
        answer: probability of the label; None where single steps are explained.
        probability: float32 (steps,), of embolism; None where the model does not tell.
        attention: float32 (steps,), share of the answer; None of a model without.
    """

    steps: list[int]
    heat: Tensor
    answer: float | None
    probability: Tensor | None
    attention: Tensor | None


class ExamExplainer:
    """Heat of the steps of an exam, by the logit of a label or by the steps' own.

    Args:
        model: with an encoder of images, ready to answer, on its device; its parameters are
            frozen.
        level: of the encoder, finest first, or from -1, coarsest first.
        label: of :data:`~pe_unified.ct.exam_labels.EXAM_TARGETS`, or ``"step"``; by default
            whether the exam is positive, else the first that the model answers.
        precision: ``"fp32"`` or ``"bf16"``.

    Raises:
        CamError: it has no encoder, no such level, or does not answer the label.
    """

    def __init__(
        self,
        model: PEExam,
        level: int = -1,
        label: str | None = None,
        precision: str = "fp32",
    ) -> None:
        if model.encoder is None:
            raise CamError(
                "the model reads stored features, so there is no image to explain; pe-unified "
                "publish puts the encoder into it"
            )
        head: Any = model.exam_head
        self.encoder = cast(Levels, model.encoder)
        self.labels: tuple[str, ...] = head.labels if head is not None else ()
        answers = [*self.labels, *([STEP] if model.step_head is not None else [])]
        if label is not None and label not in answers:
            raise CamError(f"the model does not answer {label}; it answers {', '.join(answers)}")
        self.label = label or (POSITIVE if POSITIVE in answers else answers[0])
        self.model = model.requires_grad_(False)
        self.level = level_of(self.encoder, level)
        self.stride = self.encoder.feature_info.strides[self.level]
        self.precision = precision

    def explain(self, packed: Mapping[str, Any], count: int) -> StepHeat:
        """Heat of at most ``count`` steps of an exam as the pipeline packs it, by :func:`leading`.

        For a label of the exam they are those with most attention, where the model has any; else
        those most likely to show embolism; else those whose features raise the logit most.

        Raises:
            CamError: the encoder does not need the level.
        """
        batch = self.model.data_preprocessor({"inputs": [packed["inputs"]]})
        inputs, mask = batch["inputs"][0], batch["mask"]
        with _arithmetic(self):
            with torch.no_grad():
                encoded = self.model.encode(batch["inputs"], mask, STEPS_AT_ONCE)
            features = encoded.float().requires_grad_()
            # The recurrent layers of cuDNN have no gradient outside of training.
            with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
                found, _ = self.model.outputs(features, mask)
                z_mm = packed["data_samples"].z_mm
                steps, pulls, scores = self._chosen(found, features, z_mm, count)
            parts = zip(inputs[steps].split(BATCH_SIZE), pulls.split(BATCH_SIZE))
            heat = [grad_cam(self.encoder, part, self.level, _along(pull)) for part, pull in parts]
        return StepHeat(steps, _middle_plane(torch.cat(heat), inputs).cpu(), **scores)

    def _chosen(
        self,
        found: Mapping[str, Tensor],
        features: Tensor,
        z_mm: Sequence[float],
        count: int,
    ) -> tuple[list[int], Tensor, dict[str, Any]]:
        """The steps to show; by their features, the gradient of the logit, (steps, channels); and
        the scores of a :class:`StepHeat`."""
        scores: dict[str, Any] = dict.fromkeys(("answer", "probability", "attention"))
        if "step" in found:
            scores["probability"] = found["step"][0].detach().sigmoid().cpu()
        if self.label == STEP:
            steps = leading(scores["probability"], z_mm, count)
            logits = found["step"][0, steps]
            pulls = [
                torch.autograd.grad(logit, features, retain_graph=True)[0][0, step]
                for logit, step in zip(logits, steps)
            ]
            return steps, torch.stack(pulls), scores
        column = self.labels.index(self.label)
        logit = found["exam"][0, column]
        scores["answer"] = float(logit.detach().sigmoid())
        if "attention" in found:
            scores["attention"] = found["attention"][0, column].detach().cpu()
        (pull,) = torch.autograd.grad(logit, features)
        raised = (pull * features).detach().sum(dim=2)[0].cpu()
        ranks = (scores["attention"], scores["probability"], raised)
        rank = next(each for each in ranks if each is not None)
        steps = leading(rank, z_mm, count)
        return steps, pull[0, steps], scores


def _along(pulls: Tensor) -> Callable[[Tensor], Tensor]:
    """Of features, (n, channels), how far they lie along these directions: (n,)."""
    return lambda features: (features.float() * pulls).sum(dim=1)


def _arithmetic(explainer: SliceExplainer | ExamExplainer) -> torch.autocast:
    device = next(explainer.model.parameters()).device
    return autocast(explainer.precision, device.type)


def leading(values: Tensor, z_mm: Sequence[float], count: int) -> list[int]:
    """Places of the largest values, largest first, of which none lie next to each other.

    Neighbours look the same: of those less than 10 mm apart the larger one is taken.

    Args:
        values: (n,).
        z_mm: (n,), positions; one that is unknown, NaN, is next to none.
    """
    chosen: list[int] = []
    for place in values.argsort(descending=True, stable=True).tolist():
        if not any(abs(z_mm[place] - z_mm[other]) < _APART_MM for other in chosen):
            chosen.append(place)
    return chosen[:count]


def _middle_plane(heat: Tensor, inputs: Tensor) -> Tensor:
    """(n, rows, cols) of heat that may be (n, planes, rows, cols), of fewer planes than seen."""
    if heat.ndim == 3:
        return heat
    planes = inputs.shape[2]
    size = (planes, *heat.shape[-2:])
    whole = F.interpolate(heat[:, None], size, mode="trilinear", align_corners=False)
    return whole[:, 0, planes // 2]
