"""Labels of a whole exam as the probability that any step shows them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_unified.models.heads.exam_answers import ExamAnswers
from pe_unified.registry import MODELS


@MODELS.register_module()
class NoisyOrHead(ExamAnswers):
    """One linear layer on every step, then 1 - (1 - p1)(1 - p2)... over the real steps.

    It suits labels that hold for an exam as soon as one step shows them.

    Args:
        in_channels: channels of a step's features.
        labels: the predicted labels, from ``EXAM_TARGETS``.
        dropout: probability of dropping a feature.
        prior: initial probability of every step; the exam's is higher, so it should be well below
            one over the number of steps.
        losses: configs, see :mod:`~pe_unified.models.exam_losses`.
    """

    def __init__(
        self,
        in_channels: int,
        labels: Sequence[str] = ("positive_exam_for_pe",),
        dropout: float = 0.0,
        prior: float = 0.01,
        losses: Sequence[Mapping[str, Any]] = (dict(type="pe_unified.ExamBCELoss"),),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(labels, losses, init_cfg)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(in_channels, len(self.labels))
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.constant_(self.fc.bias, math.log(prior / (1 - prior)))

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, float32 (n, labels), and the steps' shares of -log(1 - p), (n, labels, steps)."""
        features = features.masked_fill(~mask.unsqueeze(-1), 0)
        logits = self.fc(self.dropout(features)).float().transpose(1, 2)
        # log(1 - p) of a step is -softplus(logit), and logit(p) of the exam is log(e^total - 1).
        # The form e^total - 1 = e^total * 2 tanh(total / 2) / (1 + tanh(total / 2)) is accurate for
        # small totals.
        evidence = F.softplus(logits).masked_fill(~mask.unsqueeze(1), 0)
        total = evidence.sum(dim=2).clamp(min=1e-30)
        half = torch.tanh(total / 2)
        return total + torch.log(2 * half / (1 + half)), evidence / total.unsqueeze(2)
