"""Losses of exam labels, on logits, in float32.

Each is called with the logits of ``EXAM_TARGETS``, float (n, 10), and targets of the same shape: 1,
0, or NaN for labels that are unknown or not predicted. If the model also predicts steps, the logits
and targets of the steps, (n, steps), follow, with the mask of real steps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_unified.ct.exam_labels import EXAM_TARGETS, EXAM_WEIGHTS, IMAGE_WEIGHT
from pe_unified.registry import MODELS


@MODELS.register_module()
class ExamBCELoss(nn.Module):
    """Cross-entropy, averaged over the known labels of all exams; 0 if none is known."""

    name = "bce"

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        step_logits: Tensor | None = None,
        step_targets: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        entropy, known = known_entropy(logits, targets)
        return entropy.sum() / known.sum().clamp(min=1)


@MODELS.register_module()
class RSNAExamLoss(nn.Module):
    """The loss of the RSNA-STR PE challenge, normalised over the batch.

    Every exam adds its known labels with their weights. It also adds its slices, with the image
    weight times the share of positive slices among its known ones. The sum is divided by the sum of
    all these weights. If every slice is a step, this is the challenge's loss. If the model predicts
    no steps, only the exam labels count.

    Args:
        positive_weight: weight of ``positive_exam_for_pe``, which the challenge does not have.
    """

    name = "rsna"

    def __init__(self, positive_weight: float = 0.0) -> None:
        super().__init__()
        weights = {"positive_exam_for_pe": positive_weight, **EXAM_WEIGHTS}
        by_target = torch.tensor([weights[name] for name in EXAM_TARGETS])
        self.register_buffer("weights", by_target, persistent=False)

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        step_logits: Tensor | None = None,
        step_targets: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Scalar; step arguments float (n, steps), ``mask`` bool of that shape."""
        entropy, known = known_entropy(logits, targets)
        numerator = (entropy * self.weights).sum()
        denominator = (known * self.weights).sum()
        if step_logits is not None and step_targets is not None:
            if mask is not None:
                step_targets = step_targets.masked_fill(~mask, torch.nan)
            entropy, known = known_entropy(step_logits, step_targets)
            count, positive = known.sum(dim=1), torch.nan_to_num(step_targets.float()).sum(dim=1)
            weight = IMAGE_WEIGHT * positive / count.clamp(min=1)
            numerator = numerator + (weight * entropy.sum(dim=1)).sum()
            denominator = denominator + (weight * count).sum()
        return numerator / torch.where(denominator > 0, denominator, 1)


def known_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Element-wise cross-entropy, 0 where the target is NaN; and the known targets, bool."""
    known = ~targets.isnan()
    entropy = F.binary_cross_entropy_with_logits(
        logits.float(), torch.where(known, targets, 0.0).float(), reduction="none"
    )
    return torch.where(known, entropy, 0.0), known
