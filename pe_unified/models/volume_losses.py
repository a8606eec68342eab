"""Losses of the maps of volumes, on logits, in float32."""

import torch
from torch import Tensor, nn

from pe_unified.registry import MODELS


@MODELS.register_module()
class VolumeTverskyLoss(nn.Module):
    """Tversky loss of the whole batch, averaged with its mean over crops with foreground.

    Tversky's index is (TP + e) / (TP + alpha FP + beta FN + e), with the sums TP of p g, FP of p^2
    (1 - g) and FN of (1 - p)^2 g over voxels (Salehi et al., https://arxiv.org/abs/1706.05721;
    squared as in AANet). If no crop has foreground, the second term is 0.

    Args:
        alpha, beta: weights of false positives and of false negatives.
        smooth: e, in voxels.
        per_crop: weight of the second term, 0 to 1.
    """

    name = "tversky"

    def __init__(
        self, alpha: float = 0.5, beta: float = 0.5, smooth: float = 1.0, per_crop: float = 0.5
    ) -> None:
        super().__init__()
        if not 0 <= per_crop <= 1:
            raise ValueError(f"per_crop must be a share from 0 to 1, got {per_crop}")
        self.alpha, self.beta, self.smooth, self.per_crop = alpha, beta, smooth, per_crop

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar in [0, 1]; both (n, 1, z, y, x), the target 0 or 1."""
        found, true = logits.float().sigmoid().flatten(1), target.float().flatten(1)
        sums = torch.stack(
            [
                (found * true).sum(dim=1),
                (found.square() * (1 - true)).sum(dim=1),
                ((1 - found).square() * true).sum(dim=1),
            ]
        )
        of_batch = self._lost(*sums.sum(dim=1))
        of_crops = self._lost(*sums)
        shown = true.any(dim=1).float()
        mean = (of_crops * shown).sum() / shown.sum().clamp(min=1)
        return (1 - self.per_crop) * of_batch + self.per_crop * mean

    def _lost(self, both: Tensor, false: Tensor, missed: Tensor) -> Tensor:
        weighted = both + self.alpha * false + self.beta * missed
        return 1 - (both + self.smooth) / (weighted + self.smooth)
