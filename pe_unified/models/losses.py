"""Losses on logits: pooled Dice, binary focal and softmax focal, all in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pooled_dice_loss(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss with one ratio for the whole batch.

    Pooling over the batch keeps slices without embolus useful: alone, their Dice has an empty
    reference; pooled, every false pixel on them enlarges the denominator. (Milletari et al.,
    https://arxiv.org/abs/1606.04797; pooling as "batch dice" in nnU-Net.)

    Args:
        logits: (n, 1, rows, cols).
        target: same shape, 0 or 1.
        smooth: added above and below, in pixels.

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


def binary_focal_loss(
    logits: Tensor, target: Tensor, alpha: float = 0.75, gamma: float = 2.0
) -> Tensor:
    """Focal loss of Lin et al. (https://arxiv.org/abs/1708.02002) over pixels.

    Normalised by the number of positive pixels (at least one per slice), as in the paper:
    a plain mean over the slice would vanish beside Dice, since almost no pixel is positive.

    Args:
        logits: (n, 1, rows, cols).
        target: same shape, 0 or 1.
        alpha: weight of positive pixels; 1 - alpha is that of negative ones.
        gamma: how strongly easy pixels are held back.
    """
    logits = logits.float()
    target = target.float()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    miss = torch.exp(-entropy)
    weight = alpha * target + (1 - alpha) * (1 - target)
    positives = target.sum().clamp(min=float(len(target)))
    return (weight * (1 - miss) ** gamma * entropy).sum() / positives


def softmax_focal_loss(
    logits: Tensor, label: Tensor, gamma: float = 2.0, class_weight: Tensor | None = None
) -> Tensor:
    """Focal loss over classes, averaged like cross-entropy (weighted mean).

    Args:
        logits: (n, classes).
        label: int64 (n,).
        gamma: how strongly easy samples are held back; 0 gives cross-entropy.
        class_weight: float (classes,), or None.
    """
    log_probability = F.log_softmax(logits.float(), dim=1)
    chosen = log_probability.gather(1, label[:, None]).squeeze(1)
    loss = -((1 - chosen.exp()) ** gamma) * chosen
    if class_weight is None:
        return loss.mean()
    weight = class_weight.to(loss)[label]
    return (weight * loss).sum() / weight.sum()
