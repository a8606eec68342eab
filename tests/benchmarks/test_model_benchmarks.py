"""The model benchmarks run, measure both sides, and refuse models that differ."""

import argparse
import importlib

import pytest
import torch

from pe_unified.benchmarks.arguments import ADD_ARGUMENTS
from pe_unified.testing import tiny_model_config


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _benchmark(name, monkeypatch):
    module = importlib.import_module(f"pe_unified.benchmarks.{name}")
    monkeypatch.setitem(module.BACKBONES, "R50", tiny_model_config()["backbone"])
    return module


def _arguments(module, *words) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    ADD_ARGUMENTS[module.__name__.rpartition(".")[2]](parser)
    common = ["--size", "64", "--repeats", "1", "--threads", "1", "--backbones", "R50"]
    return parser.parse_args([*common, *words])


def _check(rows, cases):
    assert [row["case"] for row in rows] == cases
    for row in rows:
        assert set(row) == {"case", "ours", "reference", "unit"}
        assert row["ours"] > 0
        assert row["reference"] > 0


@pytest.mark.parametrize("precision", [(), ("--amp",)])
def test_train(monkeypatch, precision):
    module = _benchmark("train", monkeypatch)
    rows = module.run(_arguments(module, "--heads", "cls", "seg", *precision))
    _check(rows, ["R50, cls, 2 x 64 x 64", "R50, seg, 2 x 64 x 64"])


def test_infer(monkeypatch):
    module = _benchmark("infer", monkeypatch)
    _check(
        module.run(_arguments(module)),
        ["R50, same settings, 64 x 64", "R50, small-lesion, 64 x 64"],
    )


def test_infer_times_nothing_that_differs(monkeypatch):
    module = _benchmark("infer", monkeypatch)
    monkeypatch.setattr(module, "copy_to_stock", lambda *args: [])
    with pytest.raises(SystemExit, match="outputs differ from the stock models"):
        module.run(_arguments(module))
