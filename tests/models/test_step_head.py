import pytest
import torch
from exam_part_testers import exam_features
from part_testers import without_gradient
from sklearn.metrics import log_loss

from pe_unified.models import StepHead

LENGTHS = (4, 7, 1)


def _targets(mask: torch.Tensor) -> torch.Tensor:
    targets = (torch.arange(mask.numel()).reshape(mask.shape) % 3 == 0).float()
    targets[0, 1] = torch.nan
    return targets


def test_cross_entropy_over_known_real_steps():
    torch.manual_seed(0)
    head, (features, mask) = StepHead(6), exam_features(LENGTHS, 6, padding=1)
    targets = _targets(mask)
    losses = head.loss(head(features, mask), mask, targets)
    assert tuple(losses) == head.loss_names == ("loss_bce",)
    known = mask & ~targets.isnan()
    logits = head.fc(features[known]).squeeze(1).detach()
    assert losses["loss_bce"].item() == pytest.approx(log_loss(targets[known], logits.sigmoid()))
    losses["loss_bce"].backward()
    assert without_gradient(head) == []
    assert head.fc.weight.grad.isfinite().all()


def test_other_losses_see_known_steps_only():
    losses = [dict(type="pe_unified.StepBCELoss", positive_weight=3.0, loss_weight=0.95)]
    head, (features, mask) = StepHead(6, losses=losses), exam_features(LENGTHS, 6)
    targets = _targets(mask)
    known = mask & ~targets.isnan()
    weight = (1 + 2 * targets[known]).tolist()
    logits = head(features, mask)[known].detach()
    golden = log_loss(targets[known], logits.sigmoid(), sample_weight=weight) * sum(weight)
    found = head.loss(head(features, mask), mask, targets)["loss_bce"].item()
    assert found == pytest.approx(0.95 * golden / known.sum().item())


def test_no_known_step_gives_zero_with_a_gradient():
    head, (features, mask) = StepHead(6), exam_features(LENGTHS, 6)
    (loss,) = head.loss(head(features, mask), mask, torch.full(mask.shape, torch.nan)).values()
    loss.backward()
    assert loss.item() == 0
    assert without_gradient(head) == []


def test_the_padding_has_no_answer():
    head, (features, mask) = StepHead(6, dropout=0.5).eval(), exam_features(LENGTHS, 6)
    with torch.no_grad():
        logits = head(features, mask)
    assert (logits[~mask] == 0).all() and (logits[mask] != 0).all()


def test_bfloat16_autocast_gives_finite_float32():
    head, (features, mask) = StepHead(6, dropout=0.2).train(), exam_features(LENGTHS, 6)
    with torch.autocast("cpu", torch.bfloat16):
        (loss,) = head.loss(head(features, mask), mask, _targets(mask)).values()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
