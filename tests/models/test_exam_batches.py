import pytest
import torch
from mmengine.structures import BaseDataElement
from torch import nn

from pe_unified.models.exam_batches import encode_steps, stacked_exam_targets, stacked_step_targets

MASK = torch.tensor([[True, True, True], [True, False, False]])


def test_the_encoder_sees_real_steps_only():
    encoder = nn.Sequential(nn.Flatten(), nn.LazyLinear(4), nn.BatchNorm1d(4))
    inputs = torch.randn(2, 3, 1, 2, 2)
    inputs[~MASK] = torch.nan
    features = encode_steps(encoder, inputs, MASK)
    assert features.shape == (2, 3, 4)
    assert (features[~MASK] == 0).all()
    torch.testing.assert_close(features[MASK], encoder(inputs[MASK]))
    features.sum().backward()
    assert encoder[1].weight.grad.isfinite().all()


def test_steps_go_a_few_at_a_time_where_asked_for():
    encoder = nn.Sequential(nn.Flatten(), nn.LazyLinear(4)).eval()
    inputs, seen = torch.randn(2, 3, 1, 2, 2), []
    whole = encode_steps(encoder, inputs, MASK)
    encoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    torch.testing.assert_close(encode_steps(encoder, inputs, MASK, at_once=3), whole)
    assert seen == [3, 1]


def test_targets_are_unknown_where_a_sample_has_none():
    known = BaseDataElement(gt_exam=torch.arange(10.0), gt_steps=torch.tensor([1.0, torch.nan, 0]))
    samples = [known, BaseDataElement()]
    targets = stacked_exam_targets(samples, MASK.device)
    assert targets[0].tolist() == list(range(10))
    assert targets[1].isnan().all()
    steps = stacked_step_targets(samples, MASK)
    assert steps[0].tolist() == pytest.approx([1, float("nan"), 0], nan_ok=True)
    assert steps[1].isnan().all()


def test_padding_has_no_target():
    samples = [BaseDataElement(gt_steps=torch.ones(3)) for _ in MASK]
    assert stacked_step_targets(samples, MASK).isnan().equal(~MASK)
