"""Pair head: whether two slices have the same label."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from pe_unified.registry import MODELS


@MODELS.register_module()
class PairHead(BaseModule):
    """Two layers on [a, b, abs(a - b), a * b] of two vectors, which make vectors comparable.

    A pair is any two slices of the batch whose labels are known, from the same exam or from two. It
    is positive if both slices have the same label (embolism or none) and negative if only one shows
    embolism. The order of the slices makes no difference.

    Args:
        in_channels: channels of a slice's vector.
        width: width of the hidden layer.
        dropout: probability of dropping a feature.
        margin: distance between unit vectors above which a negative pair has no loss.
        max_pairs: largest number of pairs drawn from a batch; None for all.
        contrastive_weight, bce_weight: weights of the two losses.
    """

    loss_names = ("loss_contrastive", "loss_bce")

    def __init__(
        self,
        in_channels: int,
        width: int = 256,
        dropout: float = 0.0,
        margin: float = 1.0,
        max_pairs: int | None = 4096,
        contrastive_weight: float = 1.0,
        bce_weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.margin, self.max_pairs = margin, max_pairs
        self.weights = (contrastive_weight, bce_weight)
        self.layers = nn.Sequential(
            nn.Linear(4 * in_channels, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1)
        )

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Logits, float32 (pairs,), of having the same label.

        Args:
            one, other: float (pairs, in_channels).
        """
        between = [(one - other).abs(), one * other]
        there = self.layers(torch.cat([one, other, *between], dim=1))
        back = self.layers(torch.cat([other, one, *between], dim=1))
        return ((there + back) / 2).squeeze(1).float()

    def loss(self, features: Tensor, mask: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Mean losses over the pairs, scalars, by name; 0 if there are none.

        Args:
            features: float (n, steps, in_channels); n: exams.
            mask: bool (n, steps), True where a step is real.
            targets: (n, steps), 1, 0 or NaN where unknown; unknown slices are in no pair.
        """
        known = mask & ~targets.isnan()
        vectors, labels = features[known], targets[known]
        pairs = torch.combinations(torch.arange(len(labels), device=labels.device))
        if self.max_pairs is not None and len(pairs) > self.max_pairs:
            pairs = pairs[torch.randperm(len(pairs), device=pairs.device)[: self.max_pairs]]
        first, second = pairs.unbind(dim=1)
        same = (labels[first] == labels[second]).float()
        one, other = vectors[first], vectors[second]
        losses = (
            contrastive_loss(one, other, same, self.margin),
            F.binary_cross_entropy_with_logits(self(one, other), same, reduction="none"),
        )
        return {
            name: weight * loss.sum() / max(len(pairs), 1)
            for name, weight, loss in zip(self.loss_names, self.weights, losses)
        }


def contrastive_loss(one: Tensor, other: Tensor, same: Tensor, margin: float = 1.0) -> Tensor:
    """The loss of Hadsell et al. 2006 (https://doi.org/10.1109/CVPR.2006.100) on unit vectors.

    Half the squared distance for a positive pair; for a negative pair, half the square of how far
    its distance is below the margin.

    Args:
        one, other: float (pairs, channels), scaled to unit length here.
        same: float (pairs,), 1 for a positive pair, else 0.

    Returns:
        float32 (pairs,).
    """
    unit = (F.normalize(each.float(), dim=1) for each in (one, other))
    distance = F.pairwise_distance(*unit)
    return (same * distance**2 + (1 - same) * (margin - distance).relu() ** 2) / 2
