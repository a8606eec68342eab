"""Golden values from the metric of the challenge and from scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from pe_unified.ct.exam_labels import EXAM_TARGETS, EXAM_WEIGHTS, IMAGE_WEIGHT
from pe_unified.evaluation.exams import exam_loss_parts
from pe_unified.models import ExamBCELoss, RSNAExamLoss


def _batch(seed: int, exams: int = 5, unknown: float = 0.3):
    """Logits and targets of exams and of their steps, double precision, and the mask."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((exams, 10)) < 0.4).astype(float)
    targets[rng.random((exams, 10)) < unknown] = np.nan
    lengths = rng.integers(1, 9, exams)
    mask = np.arange(9) < lengths[:, None]
    step_targets = np.where(mask, rng.random((exams, 9)) < 0.3, np.nan)
    arrays = rng.normal(0, 2, (exams, 10)), targets, rng.normal(0, 2, (exams, 9)), step_targets
    return *(torch.from_numpy(array) for array in arrays), torch.from_numpy(mask)


def _challenge(logits, targets, step_logits, step_targets, mask):
    """Numerator and denominator of the metric, (2,), over the exams."""
    parts = [
        exam_loss_parts(target[1:], logit[1:].sigmoid(), steps[real], found[real].sigmoid())
        for logit, target, found, steps, real in zip(
            logits, targets, step_logits, step_targets, mask
        )
    ]
    return np.sum(parts, axis=0)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**16), unknown=st.sampled_from([0.0, 0.3, 0.9]))
def test_the_challenges_loss_is_its_metric(seed, unknown):
    batch = _batch(seed, unknown=unknown)
    numerator, denominator = _challenge(*batch)
    assert RSNAExamLoss()(*batch).item() == pytest.approx(numerator / denominator, rel=1e-5)


def test_the_positive_label_adds_to_both_sums():
    batch = _batch(1)
    numerator, denominator = _challenge(*batch)
    known = ~batch[1][:, 0].isnan()
    truth, found = batch[1][known, 0], batch[0][known, 0].sigmoid()
    numerator += 0.5 * log_loss(truth, found, labels=[0, 1], normalize=False)
    denominator += 0.5 * known.sum().item()
    loss = RSNAExamLoss(positive_weight=0.5)(*batch).item()
    assert loss == pytest.approx(numerator / denominator, rel=1e-5)


def test_steps_of_unknown_label_weigh_nothing():
    """Of four steps two are known, one of them positive: each weighs half of an image's weight."""
    logits, targets = torch.zeros(1, 10), torch.full((1, 10), torch.nan)
    targets[0, 1] = 1.0
    steps = torch.tensor([[1.0, torch.nan, 0.0, torch.nan]])
    found = torch.tensor([[0.5, 9.0, -2.0, -9.0]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    entropy = log_loss([1, 0], found[0, [0, 2]].sigmoid(), normalize=False)
    label, image = EXAM_WEIGHTS["negative_exam_for_pe"], IMAGE_WEIGHT / 2
    golden = (label * np.log(2) + image * entropy) / (label + 2 * image)
    assert RSNAExamLoss()(logits, targets, found, steps, mask).item() == pytest.approx(golden)
    assert RSNAExamLoss()(logits, targets).item() == pytest.approx(np.log(2))


def test_padding_has_no_labels_whatever_stands_there():
    logits, targets, found, steps, mask = _batch(2)
    golden = RSNAExamLoss()(logits, targets, found, steps, mask)
    dirty = RSNAExamLoss()(logits, targets, found, steps.nan_to_num(1.0), mask)
    torch.testing.assert_close(dirty, golden)


def test_cross_entropy_over_what_is_known():
    logits, targets, *_ = _batch(3)
    known = ~targets.isnan()
    golden = log_loss(targets[known], logits[known].sigmoid())
    assert ExamBCELoss()(logits, targets).item() == pytest.approx(golden, rel=1e-5)


@pytest.mark.parametrize("loss", [ExamBCELoss(), RSNAExamLoss(), RSNAExamLoss(0.3)])
@pytest.mark.parametrize("known", [True, False])
def test_gradients_are_finite(loss, known):
    logits, targets, found, steps, mask = (each.clone() for each in _batch(4))
    if not known:
        targets[:], steps[:] = torch.nan, torch.nan
    value = loss(logits.requires_grad_(), targets, found.requires_grad_(), steps, mask)
    value.backward()
    assert value.dtype == torch.float32
    assert known or value.item() == 0
    assert logits.grad.isfinite().all()
    assert (logits.grad[targets.isnan()] == 0).all()
    assert found.grad is None or (found.grad[steps.isnan()] == 0).all()


def test_the_targets_are_the_positive_label_and_those_of_the_challenge():
    assert [EXAM_TARGETS[0], *EXAM_TARGETS[1:]] == ["positive_exam_for_pe", *EXAM_WEIGHTS]
