"""Base class of heads that predict exam labels: losses and predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.models.losses import WeightedLosses


class ExamAnswers(BaseModule):
    """A head whose ``forward`` returns the logits of some of ``EXAM_TARGETS``; n: exams.

    Args:
        labels: the predicted labels.
        losses: configs, see :class:`~pe_unified.models.losses.WeightedLosses`; for the call see
            :mod:`~pe_unified.models.exam_losses`.
    """

    def __init__(
        self,
        labels: Sequence[str],
        losses: Sequence[Mapping[str, Any]],
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        unknown = sorted(set(labels) - set(EXAM_TARGETS))
        if unknown or not labels:
            raise ValueError(f"labels: {unknown or 'none'}; they are {', '.join(EXAM_TARGETS)}")
        self.labels = tuple(labels)
        self.columns = [EXAM_TARGETS.index(label) for label in self.labels]
        self.losses = WeightedLosses(losses)

    @property
    def loss_names(self) -> tuple[str, ...]:
        return tuple(self.losses)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, float32 (n, labels), and the share of each step in them, (n, labels, steps)."""
        raise NotImplementedError

    def loss(
        self,
        logits: Tensor,
        mask: Tensor,
        targets: Tensor,
        step_logits: Tensor | None = None,
        step_targets: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses, scalars, by name.

        Args:
            logits: from :meth:`forward`.
            mask: bool (n, steps), True where a step is real.
            targets: (n, 10), in the order of ``EXAM_TARGETS``; 1, 0 or NaN where unknown.
            step_logits, step_targets: (n, steps), from a step head; for losses that combine both.
        """
        answered = torch.full_like(targets, torch.nan)
        answered[:, self.columns] = targets[:, self.columns]
        return self.losses(self.spread(logits, 0.0), answered, step_logits, step_targets, mask)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of ``EXAM_TARGETS``, float32 (n, 10); NaN for labels not predicted."""
        return self.spread(logits.sigmoid())

    def spread(self, values: Tensor, filler: float = torch.nan) -> Tensor:
        """Values of the labels, (n, labels, ...), as columns of ``EXAM_TARGETS``, (n, 10, ...)."""
        spread = values.new_full((len(values), len(EXAM_TARGETS), *values.shape[2:]), filler)
        spread[:, self.columns] = values
        return spread
