"""A coarse map of where a slice looks like embolism, pooled for classification."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Probability that an untrained map gives every cell.
_PRIOR = 0.01


class EvidenceMap(nn.Module):
    """One logit per cell of the finest level.

    Every level is projected to a common width, resized to the finest level and summed, as in a
    feature pyramid (Lin et al., https://arxiv.org/abs/1612.03144); one 3 x 3 convolution mixes the
    sum.

    Args:
        in_channels: channels of the backbone's levels, finest first.
        channels: the common width.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.logit = nn.Conv2d(channels, 1, 1)
        nn.init.constant_(self.logit.bias, math.log(_PRIOR / (1 - _PRIOR)))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits, float32 (n, 1, rows, cols) of the finest level."""
        size = features[0].shape[-2:]
        total = self.project[0](features[0])
        for project, feature in zip(self.project[1:], features[1:]):
            coarse = project(feature)
            total = total + F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
        return self.logit(self.mix(total)).float()


def pool_evidence(logits: Tensor) -> Tensor:
    """The logit of the strongest cell and the log of the mean odds over all cells, (n, 2).

    The second is the log-sum-exp pooling of Pinheiro and Collobert
    (https://arxiv.org/abs/1411.6228) up to a constant: every cell has a gradient, the strongest
    cells the largest.

    Args:
        logits: (n, 1, rows, cols).
    """
    cells = logits.flatten(1)
    mean = torch.logsumexp(cells, dim=1) - math.log(cells.shape[1])
    return torch.stack([cells.amax(dim=1), mean], dim=1)
