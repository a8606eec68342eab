"""Losses for emboli of a few pixels that MONAI and segmentation_models_pytorch lack.

Use the losses of those libraries by their full name: ``monai.losses.TverskyLoss``,
``segmentation_models_pytorch.losses.LovaszLoss``. docs/imbalance.md lists all with their settings.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pe_unified.models.losses import binary_cross_entropy, spoken_name
from pe_unified.registry import MODELS


@MODELS.register_module()
class FocalTverskyLoss(nn.Module):
    """Tversky loss over the batch to the power 1 / gamma (Abraham & Khan 2019, 1810.07842, eq. 3).

    MONAI's version has the background as a second class and another exponent. The one of
    segmentation_models_pytorch has a NaN gradient if no pixel of the batch is positive.

    Args:
        alpha: weight of false negative pixels, as in the paper; MONAI and others swap alpha and
            beta.
        beta: weight of false positive pixels.
        gamma: above 1, poorly segmented batches have more weight than good ones; 1 gives the
            Tversky loss.
        smooth: added to numerator and denominator, in pixels; keeps a gradient if no pixel is
            positive.
    """

    def __init__(
        self, alpha: float = 0.7, beta: float = 0.3, gamma: float = 4 / 3, smooth: float = 1.0
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.gamma, self.smooth = alpha, beta, gamma, smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """``logits`` and ``target`` (n, 1, rows, cols), target 0 or 1; a float32 scalar."""
        probability, target = logits.float().sigmoid(), target.float()
        hit = (probability * target).sum()
        missed = ((1 - probability) * target).sum()
        false = (probability * (1 - target)).sum()
        index = (hit + self.smooth) / (hit + self.alpha * missed + self.beta * false + self.smooth)
        # The power has no finite gradient at 0, the value for a perfect batch.
        return (1 - index).clamp(min=1e-6) ** (1 / self.gamma)


@MODELS.register_module()
class SymmetricCrossEntropyLoss(nn.Module):
    """Cross-entropy plus reverse cross-entropy, robust to wrong labels (Wang et al. 2019).

    This is alpha * CE + beta * RCE, where RCE swaps label and prediction and uses ``log_zero`` for
    the logarithm of 0 (1908.06112, eq. 6 and 7): for two classes,
    ``-log_zero * |probability - label|``.

    Args:
        alpha: weight of the cross-entropy.
        beta: weight of the reverse.
        log_zero: the paper's A; below 0.
        positive_weight: weight of a positive pixel, in both.
    """

    name = "sce"

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 1.0,
        log_zero: float = -4.0,
        positive_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.log_zero = alpha, beta, log_zero
        self.positive_weight = positive_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """``logits`` and ``target`` (n, 1, rows, cols), target 0 or 1; a float32 scalar."""
        logits, target = logits.float(), target.float()
        entropy = binary_cross_entropy(logits, target, self.positive_weight)
        distance = (logits.sigmoid() - target).abs() * (1 + (self.positive_weight - 1) * target)
        return self.alpha * entropy - self.beta * self.log_zero * distance.mean()


@MODELS.register_module()
class TwoClassLoss(nn.Module):
    """A loss of class probabilities, with the background as a separate class.

    Some losses weight classes against each other and need at least two: MONAI's generalised Dice
    and its unified focal losses.

    Args:
        loss: config of a loss that is called with probabilities and one-hot targets, both float32
            (n, 2, rows, cols), background first.
    """

    def __init__(self, loss: Mapping[str, Any]) -> None:
        super().__init__()
        self.loss = MODELS.build(dict(loss))
        self.name = spoken_name(self.loss)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """``logits`` and ``target`` (n, 1, rows, cols), target 0 or 1."""
        logits, target = logits.float(), target.float()
        # 1 - sigmoid(x) would be 0 for x >= 17.
        probability = torch.cat([(-logits).sigmoid(), logits.sigmoid()], dim=1)
        return self.loss(probability, torch.cat([1 - target, target], dim=1))
