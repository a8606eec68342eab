import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pe_unified import precision
from pe_unified.engine import optim_wrapper as engine_precision
from pe_unified.engine.optim_wrapper import PrecisionOptimWrapper
from pe_unified.precision import autocast, settled_precision


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
    with pytest.raises(ValueError, match="auto, fp32, bf16"):
        settled_precision("fp16")


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((12, 0), "bf16")]
)
def test_a_gpu_that_emulates_bfloat16_is_told_apart(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert precision.fastest_precision(torch.device("cuda")) == expected


@pytest.mark.parametrize(("flags", "expected"), [("avx512_bf16", "bf16"), ("avx2", "fp32")])
def test_auto_takes_what_the_processor_computes_in(monkeypatch, tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags} sse\n")
    monkeypatch.setattr(precision, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(precision, "get_device", lambda: "cpu")
    assert settled_precision("auto") == expected
    optimizer = torch.optim.SGD(nn.Linear(4, 4).parameters(), lr=0.1)
    assert PrecisionOptimWrapper(precision="auto", optimizer=optimizer).precision == expected
    assert [settled_precision(each) for each in ("fp32", "bf16")] == ["fp32", "bf16"]


@pytest.mark.parametrize("has", [True, False])
def test_emulated_bfloat16_is_told(monkeypatch, has):
    told = []
    monkeypatch.setattr(engine_precision, "print_log", lambda text, **_: told.append(text))
    monkeypatch.setattr(engine_precision, "cpu_has_bfloat16", lambda: has)
    monkeypatch.setattr(engine_precision, "get_device", lambda: "cpu")
    optimizer = torch.optim.SGD(nn.Linear(4, 4).parameters(), lr=0.1)
    PrecisionOptimWrapper(precision="bf16", optimizer=optimizer)
    assert ["precision=fp32" in text for text in told] == ([] if has else [True])


def test_bfloat16_is_used_inside_the_context_only():
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = PrecisionOptimWrapper(precision="bf16", optimizer=optimizer)
    wrapper.initialize_count_status(model, 0, 1)
    with wrapper.optim_context(model):
        assert model(torch.ones(1, 4)).dtype == torch.bfloat16
    assert model(torch.ones(1, 4)).dtype == torch.float32
