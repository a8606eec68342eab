"""Losses for emboli of a few pixels that MONAI and segmentation_models_pytorch lack.

Those that they have go by their whole name: ``monai.losses.TverskyLoss``,
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

    MONAI's has the background as a second class and another exponent; that of
    segmentation_models_pytorch has a gradient of NaN where no pixel of the batch is positive.

    Args:
        alpha: weight of missed pixels. The paper's; MONAI and others call the other one so.
        beta: weight of false pixels.
        gamma: above 1, batches that are poorly segmented weigh more beside good ones; 1 gives the
            Tversky loss.
        smooth: added above and below, in pixels; keeps a gradient where no pixel is positive.
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
        # The power has no gradient at 0, which a perfect batch reaches.
        return (1 - index).clamp(min=1e-6) ** (1 / self.gamma)


@MODELS.register_module()
class SymmetricCrossEntropyLoss(nn.Module):
    """Cross-entropy and its reverse, which bounds what a wrong label costs (Wang et al. 2019).

    alpha * CE + beta * RCE, where RCE exchanges label and prediction and takes ``log_zero`` for the
    logarithm of 0 (1908.06112, eq. 6 and 7): of two classes, ``-log_zero * |probability - label|``.

    Args:
        alpha: weight of the cross-entropy.
        beta: weight of the reverse.
        log_zero: the paper's A; below 0.
        positive_weight: how much a positive pixel counts, in both.
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
    """A loss of class probabilities, with the background as a class of its own.

    Some losses weigh classes against each other and mean nothing with one: MONAI's generalised
    Dice, and its unified focal losses.

    Args:
        loss: config of a loss that is called with probabilities and one-hot targets, float32
            (n, 2, rows, cols) both, background first.
    """

    def __init__(self, loss: Mapping[str, Any]) -> None:
        super().__init__()
        self.loss = MODELS.build(dict(loss))
        self.name = spoken_name(self.loss)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """``logits`` and ``target`` (n, 1, rows, cols), target 0 or 1."""
        logits, target = logits.float(), target.float()
        # 1 - sigmoid(x) would be 0 from x = 17 on.
        probability = torch.cat([(-logits).sigmoid(), logits.sigmoid()], dim=1)
        return self.loss(probability, torch.cat([1 - target, target], dim=1))
