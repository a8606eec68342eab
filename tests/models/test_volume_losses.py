"""The loss of volumes against the same computed in NumPy."""

import numpy as np
import pytest
import torch

from pe_unified.models.volume_losses import VolumeTverskyLoss


def reference(logits, target, alpha=0.5, beta=0.5, smooth=1.0):
    """Half the batch, half the crops with foreground; plain loops."""
    probability = 1 / (1 + np.exp(-logits))

    def lost(p, g):
        hit, false = np.sum(p * g), np.sum(p**2 * (1 - g))
        missed = np.sum((1 - p) ** 2 * g)
        return 1 - (hit + smooth) / (hit + alpha * false + beta * missed + smooth)

    of_crops = [lost(p, g) for p, g in zip(probability, target) if g.any()]
    mean = np.mean(of_crops) if of_crops else 0.0
    return 0.5 * lost(probability, target) + 0.5 * mean


@pytest.fixture
def drawn():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (3, 1, 4, 5, 6))
    target = (rng.random(logits.shape) < 0.2).astype(float)
    target[1] = 0
    return logits, target


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.3, 0.7)])
def test_half_of_the_batch_and_half_of_the_crops_with_foreground(drawn, weights):
    logits, target = drawn
    loss = VolumeTverskyLoss(*weights)
    found = loss(torch.from_numpy(logits), torch.from_numpy(target))
    assert float(found) == pytest.approx(reference(logits, target, *weights), rel=1e-5)


def test_without_foreground_half_is_left_and_teaches(drawn):
    logits, target = drawn
    given = torch.from_numpy(logits).requires_grad_()
    found = VolumeTverskyLoss()(given, torch.zeros_like(given))
    assert found.item() == pytest.approx(reference(logits, np.zeros_like(target)), rel=1e-5)
    found.backward()
    assert (given.grad > 0).all()


def test_a_perfect_map_costs_nothing(drawn):
    _, target = drawn
    truth = torch.from_numpy(target)
    assert float(VolumeTverskyLoss()((truth - 0.5) * 200, truth)) == pytest.approx(0, abs=1e-6)


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ValueError, match="per_crop"):
        VolumeTverskyLoss(per_crop=1.5)
