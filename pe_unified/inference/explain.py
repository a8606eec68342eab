"""Explanation of predictions by Grad-CAM, for slice models and exam models."""

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

#: Used instead of an exam label: whether a step shows embolism.
STEP = "step"
_APART_MM = 10.0


class SliceExplainer:
    """Heat maps of a slice model's classification, for the log-odds of embolism.

    Args:
        model: the model in evaluation mode, on its device; its parameters get frozen.
        level: level of the backbone, finest first, or from -1, coarsest first.
        precision: ``"fp32"`` or ``"bf16"``.

    Raises:
        CamError: the model does not classify, or has no such level.
    """

    def __init__(self, model: PEUnified, level: int = -1, precision: str = "fp32") -> None:
        if "cls" not in model.tasks:
            raise CamError(
                "the model has no classification head, which heat maps need (its heads: "
                f"{', '.join(model.tasks)}); use a model with a cls_head"
            )
        self.model = model.requires_grad_(False)
        self.level = level_of(model.backbone, level)
        self.stride = model.backbone.feature_info.strides[self.level]
        self.precision = precision

    def probabilities(self, packed: Sequence[Mapping[str, Any]]) -> Tensor:
        """Probability of embolism, float32 (n,), for slices packed by the pipeline."""
        with torch.no_grad(), _arithmetic(self):
            return self._log_odds(self.model.backbone(self._inputs(packed))).sigmoid().cpu()

    def heat(self, packed: Sequence[Mapping[str, Any]]) -> Tensor:
        """Heat maps, float32 (n, rows, cols) at the level's stride, not negative.

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
    """Heat maps of the steps of an exam that affect a prediction most, in descending order.

    Attributes:
        steps: indices of the steps.
        heat: float32 (steps, rows, cols) at the level's stride, not negative; for a chunk of
            slices, of its middle plane.
        answer: probability of the label; None if single steps are explained.
        probability: float32 (steps,), probability of embolism; None if not predicted.
        attention: float32 (steps,), share of each step; None for a model without attention.
    """

    steps: list[int]
    heat: Tensor
    answer: float | None
    probability: Tensor | None
    attention: Tensor | None


class ExamExplainer:
    """Heat maps of the steps of an exam, for the logit of an exam label or of the steps.

    Args:
        model: a model with an image encoder, in evaluation mode, on its device; its parameters get
            frozen.
        level: level of the encoder, finest first, or from -1, coarsest first.
        label: one of :data:`~pe_unified.ct.exam_labels.EXAM_TARGETS`, or ``"step"``; by default the
            positive exam, else the first label that the model predicts.
        precision: ``"fp32"`` or ``"bf16"``.

    Raises:
        CamError: the model has no encoder, no such level, or does not predict the label.
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
        """Heat maps of at most ``count`` steps of a packed exam, chosen by :func:`leading`.

        For an exam label these are the steps with the most attention if the model has attention;
        else those most likely to show embolism; else those whose features raise the logit most.

        Raises:
            CamError: the encoder does not use the level.
        """
        batch = self.model.data_preprocessor({"inputs": [packed["inputs"]]})
        inputs, mask = batch["inputs"][0], batch["mask"]
        with _arithmetic(self):
            with torch.no_grad():
                encoded = self.model.encode(batch["inputs"], mask, STEPS_AT_ONCE)
            features = encoded.float().requires_grad_()
            # cuDNN's recurrent layers have no gradient outside training.
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
        """The steps to show, the gradient of the logit by feature, and :class:`StepHeat` scores.

        The gradient is (steps, channels)."""
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
    """A function that projects features (n, channels) onto these directions: (n,)."""
    return lambda features: (features.float() * pulls).sum(dim=1)


def _arithmetic(explainer: SliceExplainer | ExamExplainer) -> torch.autocast:
    device = next(explainer.model.parameters()).device
    return autocast(explainer.precision, device.type)


def leading(values: Tensor, z_mm: Sequence[float], count: int) -> list[int]:
    """Indices of the largest values, largest first, without neighbours.

    Neighbours look the same: of values less than 10 mm apart, the larger one is taken.

    Args:
        values: (n,).
        z_mm: (n,), positions; a step with unknown position (NaN) has no neighbours.
    """
    chosen: list[int] = []
    for place in values.argsort(descending=True, stable=True).tolist():
        if not any(abs(z_mm[place] - z_mm[other]) < _APART_MM for other in chosen):
            chosen.append(place)
    return chosen[:count]


def _middle_plane(heat: Tensor, inputs: Tensor) -> Tensor:
    """The middle plane (n, rows, cols) of heat that may have (fewer) planes after n."""
    if heat.ndim == 3:
        return heat
    planes = inputs.shape[2]
    size = (planes, *heat.shape[-2:])
    whole = F.interpolate(heat[:, None], size, mode="trilinear", align_corners=False)
    return whole[:, 0, planes // 2]
