import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pe_unified.engine.precision import PrecisionOptimWrapper
from pe_unified.models.precision import autocast


def _trained(batches, accumulate: int) -> torch.Tensor:
    """Weights after one round of updates over the batches."""
    torch.manual_seed(0)
    model = nn.Linear(5, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    wrapper = PrecisionOptimWrapper(optimizer=optimizer, accumulative_counts=accumulate)
    wrapper.initialize_count_status(model, 0, len(batches))
    for inputs, labels in batches:
        with wrapper.optim_context(model):
            loss = F.cross_entropy(model(inputs), labels)
        wrapper.update_params(loss)
    return model.weight.detach()


def test_accumulating_equals_a_larger_batch():
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(12, 5, generator=generator)
    labels = torch.randint(0, 2, (12,), generator=generator)
    whole = [(inputs[:6], labels[:6]), (inputs[6:], labels[6:])]
    thirds = [(inputs[i : i + 2], labels[i : i + 2]) for i in range(0, 12, 2)]
    torch.testing.assert_close(_trained(thirds, 3), _trained(whole, 1))
    assert not torch.allclose(_trained(thirds, 1), _trained(whole, 1), atol=1e-3)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="fp32, bf16"):
        autocast("fp16")


def test_bfloat16_is_used_inside_the_context_only():
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = PrecisionOptimWrapper(precision="bf16", optimizer=optimizer)
    wrapper.initialize_count_status(model, 0, 1)
    with wrapper.optim_context(model):
        assert model(torch.ones(1, 4)).dtype == torch.bfloat16
    assert model(torch.ones(1, 4)).dtype == torch.float32
