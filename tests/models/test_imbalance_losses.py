"""Every loss against NumPy, on batches with and without emboli; half precision; names in logs."""

import numpy as np
import pytest
import torch

from pe_unified.models.heads.seg import PESegHead
from pe_unified.models.imbalance_losses import FocalTverskyLoss, SymmetricCrossEntropyLoss
from pe_unified.models.losses import WeightedLosses

TVERSKY = dict(
    type="monai.losses.TverskyLoss",
    sigmoid=True,
    batch=True,
    alpha=0.3,
    beta=0.7,
    smooth_nr=1.0,
    smooth_dr=1.0,
)
GENERALISED = dict(
    type="TwoClassLoss",
    loss=dict(type="monai.losses.GeneralizedDiceLoss", batch=True, smooth_nr=0.0, smooth_dr=1e-12),
)
LOVASZ = dict(type="segmentation_models_pytorch.losses.LovaszLoss", mode="binary")
UNIFIED = dict(
    type="TwoClassLoss",
    loss=dict(type="monai.losses.unified_focal_loss.AsymmetricFocalTverskyLoss"),
)


def pixels(positives: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(-2, 2, (3, 1, 9, 7)))
    target = torch.zeros(3 * 9 * 7)
    target[rng.permutation(len(target))[:positives]] = 1
    return logits, target.reshape(3, 1, 9, 7)


def tversky_index(p, t, missed, false, smooth=1.0):
    hit = (p * t).sum()
    return (hit + smooth) / (
        hit + missed * ((1 - p) * t).sum() + false * (p * (1 - t)).sum() + smooth
    )


def golden_generalised(p, t):
    """Sudre et al. 2017; a class without pixels weighs as the other one does."""
    classes = [(p, t), (1 - p, 1 - t)]
    weights = [1 / own.sum() ** 2 if own.sum() else 0.0 for _, own in classes]
    weights = [weight or max(weights) for weight in weights]
    above = sum(weight * (q * own).sum() for weight, (q, own) in zip(weights, classes))
    below = sum(weight * (q.sum() + own.sum()) for weight, (q, own) in zip(weights, classes))
    return 1 - 2 * above / below


def golden_lovasz(logits, t):
    """The extension of the Jaccard loss by its definition: errors from large to small."""
    sign = 2 * t - 1
    errors = 1 - logits * sign
    order = np.argsort(-errors)
    total, before = 0.0, 0.0
    for count in range(1, len(order) + 1):
        wrong = np.zeros(len(t), bool)
        wrong[order[:count]] = True
        truth = t > 0
        called = truth ^ wrong
        union = (truth | called).sum()
        jaccard = 1 - (truth & called).sum() / union if union else 0.0
        total += max(errors[order[count - 1]], 0) * (jaccard - before)
        before = jaccard
    return total


def golden_sce(p, t, alpha=1.0, beta=1.0, log_zero=-4.0):
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    log_label = np.stack([np.where(t > 0, 0.0, log_zero), np.where(t > 0, log_zero, 0.0)])
    reverse = -(np.stack([p, 1 - p]) * log_label).sum(axis=0).mean()
    return alpha * entropy + beta * reverse


GOLDEN = {
    "tversky": (TVERSKY, lambda x, p, t: 1 - tversky_index(p, t, missed=0.7, false=0.3)),
    "focal_tversky": (
        dict(type="FocalTverskyLoss"),
        lambda x, p, t: (1 - tversky_index(p, t, missed=0.7, false=0.3)) ** 0.75,
    ),
    "generalized_dice": (GENERALISED, lambda x, p, t: golden_generalised(p, t)),
    "lovasz": (LOVASZ, lambda x, p, t: golden_lovasz(x, t)),
    "sce": (dict(type="SymmetricCrossEntropyLoss"), lambda x, p, t: golden_sce(p, t)),
}


@pytest.mark.parametrize("positives", [0, 5, 60])
@pytest.mark.parametrize("name", GOLDEN)
def test_losses_are_those_of_numpy(name, positives):
    config, golden = GOLDEN[name]
    logits, target = pixels(positives)
    x, t = logits.numpy().ravel(), target.double().numpy().ravel()
    (found,) = WeightedLosses([config])(logits, target).items()
    assert found[0] == f"loss_{name}"
    assert found[1].item() == pytest.approx(golden(x, 1 / (1 + np.exp(-x)), t), rel=1e-5)


@pytest.mark.parametrize("config", [*(each for each, _ in GOLDEN.values()), UNIFIED])
def test_without_emboli_a_step_lowers_what_is_called(config):
    losses = WeightedLosses([config])
    logits = pixels(0)[0].requires_grad_()
    (value,) = losses(logits, pixels(0)[1]).values()
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()
    assert (logits.grad >= 0).all() and logits.grad.sum() > 1e-3


@pytest.mark.parametrize("target", [0.0, 1.0])
@pytest.mark.parametrize("sure", [-60.0, 60.0])
@pytest.mark.parametrize("config", [each for each, _ in GOLDEN.values()])
def test_sure_answers_right_or_wrong_have_finite_gradients(config, sure, target):
    logits = torch.full((1, 1, 8, 8), sure, requires_grad=True)
    (value,) = WeightedLosses([config])(logits, torch.full_like(logits, target)).values()
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("config", [each for each, _ in GOLDEN.values()])
def test_half_precision_is_computed_in_float32(config):
    """300 x 300 pixels, of which 9 are positive: a sum in bfloat16 has three digits."""
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(-3, 2, (1, 1, 300, 300))).to(torch.bfloat16)
    target = torch.zeros(1, 1, 300, 300)
    target[..., 100:103, 50:53] = 1
    losses = WeightedLosses([config])
    with torch.autocast("cpu", torch.bfloat16):
        (value,) = losses(logits, target.to(torch.bfloat16)).values()
    (exact,) = losses(logits.double(), target).values()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact, rtol=1e-5, atol=0, check_dtype=False)


def test_focal_tversky_with_gamma_1_is_monais_tversky():
    logits, target = pixels(9, seed=3)
    own = FocalTverskyLoss(alpha=0.7, beta=0.3, gamma=1.0)(logits, target)
    (golden,) = WeightedLosses([TVERSKY])(logits, target).values()
    torch.testing.assert_close(own, golden)


def test_symmetric_cross_entropy_by_hand():
    probability = torch.tensor([0.8, 0.3]).view(1, 1, 1, 2)
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    loss = SymmetricCrossEntropyLoss(alpha=0.5, beta=2.0, log_zero=-6.0, positive_weight=3.0)
    entropy = -(3 * np.log(0.8) + np.log(0.7)) / 2
    reverse = 6 * (3 * 0.2 + 0.3) / 2
    assert loss(torch.logit(probability), target).item() == pytest.approx(
        0.5 * entropy + 2 * reverse, rel=1e-5
    )


def test_sums_of_losses_have_a_name_each_in_a_head():
    losses = [
        dict(type="PooledDiceLoss", loss_weight=0.5),
        dict(type="PixelFocalLoss", loss_weight=10.0),
        TVERSKY,
        GENERALISED,
        LOVASZ,
        dict(type="SymmetricCrossEntropyLoss"),
    ]
    head = PESegHead([8, 8, 8, 8], decoder=dict(channels=(8, 8, 8, 8)), losses=losses)
    names = ("dice", "focal", "tversky", "generalized_dice", "lovasz", "sce")
    assert head.loss_names == tuple(f"loss_{name}" for name in names)
