"""Golden values from MONAI, torchvision, scikit-learn-free arithmetic; all on logits."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss
from torchvision.ops import sigmoid_focal_loss

from pe_unified.models.losses import (
    PixelFocalLoss,
    SliceFocalLoss,
    binary_cross_entropy,
    pooled_dice_loss,
)


def _pixels(seed: int, share: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 2, (3, 1, 9, 7)).astype(np.float32))
    target = torch.from_numpy((rng.random((3, 1, 9, 7)) < share).astype(np.uint8))
    return logits, target


@settings(max_examples=25)
@given(seed=st.integers(0, 2**16), share=st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_dice_is_monais_batch_dice(seed, share):
    logits, target = _pixels(seed, share)
    golden = DiceLoss(sigmoid=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)(logits, target)
    torch.testing.assert_close(pooled_dice_loss(logits, target), golden)


def test_dice_by_hand():
    probability = torch.tensor([0.8, 0.4, 0.1]).view(1, 1, 1, 3)
    target = torch.tensor([1, 0, 0]).view(1, 1, 1, 3)
    loss = pooled_dice_loss(torch.logit(probability), target)
    assert loss.item() == pytest.approx(1 - (2 * 0.8 + 1) / (1.3 + 1 + 1))


def test_dice_ignores_how_pixels_are_spread_over_slices():
    logits, target = _pixels(1)
    one_slice = pooled_dice_loss(logits.reshape(1, 1, 27, 7), target.reshape(1, 1, 27, 7))
    torch.testing.assert_close(pooled_dice_loss(logits, target), one_slice)


@pytest.mark.parametrize("alpha, gamma", [(0.75, 2.0), (0.25, 1.0), (0.5, 0.0)])
def test_binary_focal_is_torchvisions(alpha, gamma):
    logits, target = _pixels(2)
    total = sigmoid_focal_loss(logits, target.float(), alpha, gamma, reduction="sum")
    torch.testing.assert_close(PixelFocalLoss(alpha, gamma)(logits, target), total / target.sum())


def test_binary_focal_without_positives_is_divided_by_the_slices():
    logits, target = _pixels(3, share=0.0)
    total = sigmoid_focal_loss(logits, target.float(), 0.75, 2.0, reduction="sum")
    torch.testing.assert_close(PixelFocalLoss()(logits, target), total / 3)


@pytest.mark.parametrize("weight", [1.0, 5.0])
def test_cross_entropy_by_hand(weight):
    logits = torch.tensor([2.0, -1.0]).view(1, 1, 1, 2)
    target = torch.tensor([1, 0]).view(1, 1, 1, 2)
    golden = (weight * math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert binary_cross_entropy(logits, target, weight).item() == pytest.approx(golden)


def test_softmax_focal_at_gamma_0_is_weighted_cross_entropy():
    logits, label = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    golden = F.cross_entropy(logits, label, torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(SliceFocalLoss([1.0, 3.0], gamma=0.0)(logits, label), golden)


def test_softmax_focal_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    golden = -(0.9**2 * math.log(0.1) + 0.4**2 * math.log(0.6)) / 2
    loss = SliceFocalLoss()(p.log(), torch.tensor([1, 1]))
    assert loss.item() == pytest.approx(golden, rel=1e-5)


@pytest.mark.parametrize("loss", [pooled_dice_loss, binary_cross_entropy, PixelFocalLoss()])
@pytest.mark.parametrize("extreme", [-1e4, 1e4])
def test_extreme_bfloat16_logits_stay_finite(loss, extreme):
    logits = torch.full((1, 1, 4, 4), extreme, dtype=torch.bfloat16, requires_grad=True)
    value = loss(logits, torch.ones(1, 1, 4, 4))
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
