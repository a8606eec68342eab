"""Labels of a whole exam, from its steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.models.heads.exam_answers import ExamAnswers
from pe_unified.registry import MODELS

_POOLS = ("attention", "attention+max", "max", "mean", "last")


@MODELS.register_module()
class ExamHead(ExamAnswers):
    """Pooling over the real steps, and one linear layer per label.

    With attention, every label has its own weights of the steps: a score per step, tanh, softmax
    over the real steps (Ma et al., https://doi.org/10.1038/s41598-022-16976-9). The tanh keeps all
    weights within a factor of e^2 of each other; the additional maximum of every feature over the
    steps can follow a single step.

    Args:
        in_channels: channels of a step's features.
        labels: the predicted labels, from ``EXAM_TARGETS``.
        pool: ``"attention"``, ``"attention+max"``, ``"max"``, ``"mean"``, or ``"last"``, the last
            real step.
        dropout: probability of dropping a pooled feature.
        positions: length of a learned vector per label that is stretched over the exam and added to
            the attention scores; 0 for none.
        losses: configs, see :mod:`~pe_unified.models.exam_losses`.
    """

    def __init__(
        self,
        in_channels: int,
        labels: Sequence[str] = EXAM_TARGETS,
        pool: str = "attention+max",
        dropout: float = 0.0,
        positions: int = 0,
        losses: Sequence[Mapping[str, Any]] = (dict(type="pe_unified.ExamBCELoss"),),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(labels, losses, init_cfg)
        if pool not in _POOLS:
            raise ValueError(f"pool is one of {_POOLS}, got {pool!r}")
        self.pools = tuple(pool.split("+"))
        if positions and "attention" not in self.pools:
            raise ValueError(f"positions need attention, and pool={pool!r} does not include it")
        count, width = len(self.labels), in_channels * len(self.pools)
        if "attention" in self.pools:
            self.score = nn.Linear(in_channels, count, bias=False)
        self.position_bias = nn.Parameter(torch.zeros(count, positions)) if positions else None
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Conv1d(count * width, count, 1, groups=count)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits and attention.

        Args:
            features: float (n, steps, in_channels).
            mask: bool (n, steps), True where a step is real.

        Returns:
            float32 (n, labels); and float32 (n, labels, steps), which sums to 1 over the steps, or
            None for a pool without attention.
        """
        features = features.masked_fill(~mask.unsqueeze(-1), 0)
        attention = self._attention(features, mask) if "attention" in self.pools else None
        parts = []
        for pool in self.pools:
            if attention is not None and pool == "attention":
                pooled = attention.to(features.dtype) @ features
            else:
                pooled = _pooled(features, mask, pool).unsqueeze(1)
            parts.append(pooled.expand(-1, len(self.labels), -1))
        wide = self.dropout(torch.cat(parts, dim=2)).flatten(1)
        return self.fc(wide.unsqueeze(2)).squeeze(2).float(), attention

    def _attention(self, features: Tensor, mask: Tensor) -> Tensor:
        score = self.score(features).transpose(1, 2).float()
        if self.position_bias is not None:
            score = score + stretched(self.position_bias, mask)
        return score.tanh().masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(dim=2)


def _pooled(features: Tensor, mask: Tensor, pool: str) -> Tensor:
    """(n, channels) from features with zeros for padding."""
    if pool == "max":
        return features.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1)
    lengths = mask.sum(dim=1, keepdim=True)
    if pool == "mean":
        return features.sum(dim=1) / lengths
    last = (lengths - 1).unsqueeze(2).expand(-1, 1, features.shape[2])
    return features.gather(1, last).squeeze(1)


def stretched(vectors: Tensor, mask: Tensor) -> Tensor:
    """Vectors interpolated to the length of each exam, like a row of pixels.

    Args:
        vectors: float (labels, positions).
        mask: bool (n, steps), True where a step is real.

    Returns:
        float (n, labels, steps): as ``torch.nn.functional.interpolate(mode="linear")`` for each
        exam's own length; values in the padding are undefined.
    """
    positions, lengths = vectors.shape[1], mask.sum(dim=1, keepdim=True)
    steps = torch.arange(mask.shape[1], device=mask.device)
    place = ((steps + 0.5) * positions / lengths - 0.5).clamp(0, positions - 1)
    before = place.floor().long()
    after = (before + 1).clamp(max=positions - 1)
    share = place - before
    return (vectors[:, before] * (1 - share) + vectors[:, after] * share).transpose(0, 1)
