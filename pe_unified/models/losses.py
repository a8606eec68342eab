"""Losses on logits, all in float32: of pixels (Dice, cross-entropy, focal) and of slices.

A head takes a list of losses from its config, including any other module that is called with logits
and target: ``losses=[dict(type="PooledDiceLoss"), dict(type="monai.losses.TverskyLoss",
sigmoid=True, loss_weight=0.5)]``. More are in ``imbalance_losses.py``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_unified.registry import MODELS


class WeightedLosses(nn.ModuleDict):
    """The losses of a head, by name.

    Args:
        configs: one per loss. ``loss_weight`` (default 1) and ``loss_name`` (default from the
            class: ``loss_dice`` for ``DiceLoss``) are removed before it is built.

    Raises:
        ValueError: there is no loss, or two have the same name.
    """

    def __init__(self, configs: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}
        for config in configs:
            options = dict(config)
            weight, name = options.pop("loss_weight", 1.0), options.pop("loss_name", None)
            loss = MODELS.build(options)
            name = name or f"loss_{spoken_name(loss)}"
            if not name.startswith("loss"):  # mmengine sums keys with "loss" in them
                raise ValueError(f"losses: a loss_name begins with loss_, got '{name}'")
            if name in self:
                raise ValueError(f"losses: two are called {name}; give one a loss_name")
            self[name] = loss
            self.weights[name] = weight
        if not self:
            raise ValueError("losses is empty: nothing to learn")

    def forward(self, *given: Any) -> dict[str, Tensor]:
        """Weighted losses by name, each called with all arguments: logits, target and others.

        Always in float32, whatever the precision of training: losses of other packages sum pixels
        in the type of their input.
        """
        given = tuple(_in_float32(each) for each in given)
        kind = next((each.device.type for each in given if isinstance(each, Tensor)), "cpu")
        with torch.autocast(kind, enabled=False):
            return {name: self.weights[name] * loss(*given) for name, loss in self.items()}


def _in_float32(given: Any) -> Any:
    return given.float() if isinstance(given, Tensor) and given.is_floating_point() else given


def spoken_name(loss: nn.Module) -> str:
    """The loss's ``name``, else from its class: ``FocalTverskyLoss`` gives ``focal_tversky``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(loss).__name__.removesuffix("Loss"))
    return getattr(loss, "name", None) or words.lower()


@MODELS.register_module()
class PooledDiceLoss(nn.Module):
    """:func:`pooled_dice_loss` for use in a config."""

    name = "dice"

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return pooled_dice_loss(logits, target, self.smooth)


@MODELS.register_module()
class PixelCrossEntropyLoss(nn.Module):
    """:func:`binary_cross_entropy` for use in a config."""

    name = "bce"

    def __init__(self, positive_weight: float = 1.0) -> None:
        super().__init__()
        self.positive_weight = positive_weight

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy(logits, target, self.positive_weight)


@MODELS.register_module()
class StepBCELoss(PixelCrossEntropyLoss):
    """:func:`binary_cross_entropy` over the steps of exams, logits and targets (steps,)."""


@MODELS.register_module()
class PixelFocalLoss(nn.Module):
    """Focal loss of Lin et al. (https://arxiv.org/abs/1708.02002) over pixels.

    Normalised by the number of positive pixels (at least one per slice), as in the paper: a plain
    mean over the slice would be negligible next to Dice, since almost no pixel is positive.

    Args:
        alpha: weight of positive pixels; negative ones have 1 - alpha.
        gamma: how strongly easy pixels are down-weighted.
    """

    name = "focal"

    def __init__(self, alpha: float = 0.75, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """``logits`` and ``target`` (n, 1, rows, cols), target 0 or 1; a float32 scalar."""
        logits, target = logits.float(), target.float()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        miss = torch.exp(-entropy)
        weight = self.alpha * target + (1 - self.alpha) * (1 - target)
        positives = target.sum().clamp(min=float(len(target)))
        return (weight * (1 - miss) ** self.gamma * entropy).sum() / positives


class _SliceLoss(nn.Module):
    """A loss with class weights.

    Args:
        class_weight: one weight per class, or None.
    """

    def __init__(self, class_weight: Sequence[float] | None = None) -> None:
        super().__init__()
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float)
        self.register_buffer("class_weight", weight, persistent=False)


@MODELS.register_module()
class SliceCrossEntropyLoss(_SliceLoss):
    """Cross-entropy over classes, for logits (n, classes) and labels int64 (n,)."""

    name = "ce"

    def __init__(
        self, class_weight: Sequence[float] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(class_weight)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(
            logits.float(), label, self.class_weight, label_smoothing=self.label_smoothing
        )


@MODELS.register_module()
class SliceFocalLoss(_SliceLoss):
    """Focal loss over classes, averaged like cross-entropy (weighted mean).

    Args:
        class_weight: one weight per class, or None.
        gamma: how strongly easy slices are down-weighted; 0 gives cross-entropy.
    """

    name = "focal"

    def __init__(self, class_weight: Sequence[float] | None = None, gamma: float = 2.0) -> None:
        super().__init__(class_weight)
        self.gamma = gamma

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """``logits`` (n, classes) and ``label`` int64 (n,); a float32 scalar."""
        log_probability = F.log_softmax(logits.float(), dim=1)
        chosen = log_probability.gather(1, label[:, None]).squeeze(1)
        loss = -((1 - chosen.exp()) ** self.gamma) * chosen
        if self.class_weight is None:
            return loss.mean()
        weight = self.class_weight.to(loss)[label]
        return (weight * loss).sum() / weight.sum()


def pooled_dice_loss(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss with one ratio for the whole batch.

    Pooling over the batch makes slices without embolus useful: alone, their Dice has an empty
    reference; pooled, every false positive pixel on them enlarges the denominator. (Milletari et
    al., https://arxiv.org/abs/1606.04797; pooling as "batch dice" in nnU-Net.)

    Args:
        logits: (n, 1, rows, cols).
        target: same shape, 0 or 1.
        smooth: added to numerator and denominator, in pixels.

    Returns:
        float32 scalar in [0, 1].
    """
    probability = logits.float().sigmoid()
    target = target.float()
    overlap = (probability * target).sum()
    total = probability.sum() + target.sum()
    return 1 - (2 * overlap + smooth) / (total + smooth)


def binary_cross_entropy(logits: Tensor, target: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Mean pixel-wise cross-entropy; a positive pixel counts ``positive_weight`` times.

    Args:
        logits: (n, 1, rows, cols).
        target: same shape, 0 or 1.
        positive_weight: weight of positive pixels.
    """
    logits = logits.float()
    weight = logits.new_tensor(positive_weight) if positive_weight != 1.0 else None
    return F.binary_cross_entropy_with_logits(logits, target.float(), pos_weight=weight)
