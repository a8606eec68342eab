"""Classification of every step of an exam: embolism or none."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.models.losses import WeightedLosses
from pe_unified.registry import MODELS


@MODELS.register_module()
class StepHead(BaseModule):
    """One linear layer on every step; n: exams.

    Args:
        in_channels: channels of a step's features.
        dropout: probability of dropping a feature.
        losses: configs, see :class:`~pe_unified.models.losses.WeightedLosses`; each is called with
            logits and targets, float (k,), of the steps with known label.
    """

    def __init__(
        self,
        in_channels: int,
        dropout: float = 0.0,
        losses: Sequence[Mapping[str, Any]] = (dict(type="pe_unified.StepBCELoss"),),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(in_channels, 1)
        self.losses = WeightedLosses(losses)

    @property
    def loss_names(self) -> tuple[str, ...]:
        return tuple(self.losses)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Logits, float32 (n, steps), 0 in the padding.

        Args:
            features: float (n, steps, in_channels).
            mask: bool (n, steps), True where a step is real.
        """
        features = features.masked_fill(~mask.unsqueeze(-1), 0)
        return self.fc(self.dropout(features)).squeeze(2).float().masked_fill(~mask, 0)

    def loss(self, logits: Tensor, mask: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Losses, scalars, by name, over steps with known label; 0 if there are none.

        Args:
            logits: from :meth:`forward`.
            targets: (n, steps), 1, 0 or NaN where unknown.
        """
        known = mask & ~targets.isnan()
        if not known.any():
            return dict.fromkeys(self.loss_names, logits.sum() * 0.0)
        return self.losses(logits[known], targets[known])
