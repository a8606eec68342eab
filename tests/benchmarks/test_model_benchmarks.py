"""The model benchmarks run, measure both sides, and refuse models that differ."""

import argparse
import importlib
from dataclasses import replace

import pytest
import torch
from torch import nn

from pe_unified.benchmarks.arguments import ADD_ARGUMENTS, NETS
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


@pytest.mark.parametrize("precision", [(), pytest.param(("--amp",), marks=pytest.mark.slow)])
def test_train(monkeypatch, precision):
    module = _benchmark("train", monkeypatch)
    rows = module.run(_arguments(module, "--heads", "cls", "seg", *precision))
    _check(rows, ["R50, cls, 2 x 64 x 64", "R50, seg, 2 x 64 x 64"])


@pytest.mark.slow
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


def test_seg(monkeypatch, capsys):
    module = importlib.import_module("pe_unified.benchmarks.seg")
    small = dict(model=dict(backbone=dict(base_channels=4)))
    options = dict(features=(4, 8, 16, 32, 64, 4), norm="batch", upsample="nontrainable")
    pair = replace(module.PAIRS["unet"], settings=small, options=options)
    monkeypatch.setitem(module.PAIRS, "unet", pair)
    parser = argparse.ArgumentParser()
    ADD_ARGUMENTS["seg"](parser)
    rows = module.run(
        parser.parse_args(["--nets", "unet", "--size", "64", "--repeats", "1", "--threads", "1"])
    )
    timed = ("training, 2 x 64 x 64", "inference, 64 x 64")
    counted = ("kept, 2 x 64 x 64", "memory, 64 x 64", "operations, 64 x 64", "parameters")
    _check(rows, [f"unet, {case}" for case in (*timed, *counted)])
    assert "halves the channels" in capsys.readouterr().out
    assert rows[5]["ours"] == pytest.approx(0.123, abs=0.002)


def test_memory_of_an_answer_is_that_of_its_largest_moment():
    module = importlib.import_module("pe_unified.benchmarks.seg")
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 8, 1, bias=False))
    image = torch.zeros(1, 1, 256, 256)  # 0.25 MiB

    def answer():
        with torch.inference_mode():
            net(image)

    # At the last layer its input of two channels and its output of eight.
    assert module._memory(net, answer) == pytest.approx(10 * 0.25, abs=0.01)


@pytest.mark.slow
def test_any_models_stand_beside_the_first(capsys):
    module = importlib.import_module("pe_unified.benchmarks.seg")
    parser = argparse.ArgumentParser()
    ADD_ARGUMENTS["seg"](parser)
    words = "--configs unets/tiny_unet1 unets/tiny_unet2 --size 32 --repeats 1 --threads 1"
    rows = module.run(parser.parse_args(words.split()))
    assert [row["case"].split(",")[0] for row in rows[::6]] == [
        "unets/tiny_unet1",
        "unets/tiny_unet2",
    ]
    assert rows[5]["ours"] == rows[5]["reference"] == rows[11]["reference"]
    assert rows[11]["ours"] == pytest.approx(0.47, abs=0.01)


def test_every_net_has_its_like():
    module = importlib.import_module("pe_unified.benchmarks.seg")
    assert tuple(module.PAIRS) == NETS
    with torch.device("meta"):
        for name in NETS[1:3]:
            pair = module.PAIRS[name]
            counts = [
                sum(each.numel() for each in net.parameters())
                for net in (module.model_of(pair.config, pair.settings), pair.theirs())
            ]
            assert counts[0] == pytest.approx(counts[1], rel=0.12)


def test_memory_that_training_keeps():
    module = importlib.import_module("pe_unified.benchmarks.seg")
    weight, x = torch.nn.Parameter(torch.ones(1024, 256)), torch.ones(512, 1024)

    def forward():
        (x @ weight).exp().sum()

    assert module._kept(forward) == (512 * 1024 + 512 * 256) * 4 / 2**20
