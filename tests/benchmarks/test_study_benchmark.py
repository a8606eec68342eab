"""The benchmark of a whole study runs, and times nothing that differs."""

import argparse
import importlib
import json
import re
import shutil
import sys

import pytest
import torch
from studies import write_checkpoint

from pe_unified.benchmarks.arguments import ADD_ARGUMENTS
from pe_unified.ct.opening import open_study
from pe_unified.inference.model import load_model
from pe_unified.testing import tiny_model_config

#: What a benchmark gives of every row; tools/benchmark.py adds the rest.
ROW = {"case", "ours", "reference", "unit"}


@pytest.fixture
def module(monkeypatch):
    module = importlib.import_module("pe_unified.benchmarks.study")
    monkeypatch.setitem(module.BACKBONES, "R50", tiny_model_config()["backbone"])
    monkeypatch.setattr(module, "_FEW", 4)
    models = sys.modules["pe_unified.benchmarks.models"]
    narrow = models.detection(small_lesions=False)
    narrow["neck"]["out_channels"] = narrow["roi_head"]["bbox_head"]["fc_out_channels"] = 32
    usual = models.detection
    monkeypatch.setattr(models, "detection", lambda small: usual(small) if small else narrow)
    before = torch.get_num_threads()
    yield module
    torch.set_num_threads(before)


def words_of_command(painted_set, tmp_path):
    study = sorted(painted_set[1].parent.glob("CT_scans/*"))[0]
    words = ["--checkpoint", str(write_checkpoint(tmp_path / "m.pth")), "--study", str(study)]
    return [*words, "--size", "64", "--threads", "1", "--ladder-slices", "4"]


def arguments(module, painted_set, tmp_path, *words):
    parser = argparse.ArgumentParser()
    ADD_ARGUMENTS["study"](parser)
    return parser.parse_args([*words_of_command(painted_set, tmp_path), *words])


@pytest.mark.slow
def test_every_rung_stands_beside_the_one_before_and_the_stock_models(
    module, painted_set, tmp_path, capsys, monkeypatch
):
    """As the command writes them."""
    out = tmp_path / "rows.json"
    words = [*words_of_command(painted_set, tmp_path), "--ways", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "study", *words])
    importlib.import_module("pe_unified.cli.benchmark").main()
    rows = json.loads(out.read_text())
    for row in rows:
        assert set(row) == {*ROW, "what", "ratio", "machine", "versions"}
        assert row["what"] == "study" and row["unit"] == "CPU s per slice"
        assert row["ratio"] == row["ours"] / row["reference"] > 0
    told = capsys.readouterr().out
    rungs = re.findall(r"^(.*): [\d.]+ CPU s, [\d.]+ s per slice", told, re.MULTILINE)
    assert rungs[0] == "three stock models as they come" and rungs[-3:] == [
        "small-lesion settings",
        "shared backbone",
        "our own heads",
    ]
    cases = [row["case"].removeprefix("R50, 64 x 64: ") for row in rows]
    assert cases == [
        "ours / tuned stock models",
        *(f"+ {name} / the rung before" for name in rungs[1:]),
        *(f"{name} / three stock models as they come" for name in rungs[1:]),
    ]
    steps, totals = rows[1 : len(rungs)], rows[len(rungs) :]
    assert rows[0]["ours"] == steps[-1]["ours"] == totals[-1]["ours"]
    assert rows[0]["reference"] == totals[-3]["ours"], "tuned, with three backbones"
    assert re.findall(r"^(.*): logits within", told, re.MULTILINE) == rungs[1:]


@pytest.mark.slow
def test_a_rung_that_computes_something_else_is_not_timed(
    module, painted_set, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        sys.modules["pe_unified.benchmarks.ladder"], "copy_to_stock", lambda *args: []
    )
    monkeypatch.setattr(module, "_stock_seconds", lambda *args: pytest.fail("timed"))
    with pytest.raises(SystemExit, match="shared backbone: its logits differ"):
        module.run(arguments(module, painted_set, tmp_path, "--ways", "torch-fp32"))


def test_a_missing_int8_model_is_told_before_anything_is_timed(
    module, painted_set, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "_stock_seconds", lambda *args: pytest.fail("timed"))
    with pytest.raises(SystemExit, match="--int8 --data-root DATA"):
        module.run(arguments(module, painted_set, tmp_path, "--ways", "openvino-int8"))


def test_ways_need_a_checkpoint(module):
    parser = argparse.ArgumentParser()
    ADD_ARGUMENTS["study"](parser)
    with pytest.raises(SystemExit, match="give its --checkpoint"):
        module.run(parser.parse_args(["--ways", "torch-fp32"]))


@pytest.mark.slow
def test_without_a_checkpoint_the_ladder_alone(module, painted_set, tmp_path, monkeypatch):
    untrained = load_model(module.untrained_checkpoint(module.BACKBONES["R50"], tmp_path))
    assert untrained.size == (384, 512) and untrained.thresholds.gate is None
    args = arguments(module, painted_set, tmp_path)
    args.checkpoint, tiny = None, args.checkpoint
    monkeypatch.setattr(module, "untrained_checkpoint", lambda backbone, folder: tiny)
    monkeypatch.setattr(module, "measure", lambda rungs, *rest: [len(rungs)])
    assert module.run(args) in ([8], [9])


@pytest.mark.slow
def test_the_stock_models_are_timed_before_freed_memory_is_kept(
    module, painted_set, tmp_path, monkeypatch
):
    def timed(*args):
        raise SystemExit("stock models")

    for place in (module, sys.modules["pe_unified.inference.predictor"]):
        monkeypatch.setattr(place, "keep_freed_memory", lambda: pytest.fail("kept"))
    monkeypatch.setattr(module, "_stock_seconds", timed)
    with pytest.raises(SystemExit, match="stock models"):
        module.run(arguments(module, painted_set, tmp_path, "--ways", "torch-fp32"))


@pytest.mark.slow
def test_whole_studies(module, painted_set, tmp_path, capsys):
    args = arguments(module, painted_set, tmp_path, "--ways", "torch-fp32")
    args.ladder_slices = 0
    tuned, stock = module.run(args)
    assert set(tuned) == set(stock) == ROW and tuned["ours"] == stock["ours"] > 0
    assert tuned["reference"] > 0 and stock["reference"] > 0
    assert tuned["case"] == (
        "R50, 16 slices of 64 x 64, torch-fp32, network 64 x 64 / tuned stock models"
    )
    assert stock["case"].endswith("/ three stock models as they come")
    told = capsys.readouterr().out
    assert "Dice of the masks 1.0000" in told and "TFLOP" in told
    assert "ms for every slice more" in told
    assert len(re.findall(r"s per slice: [\d.]+, with freed memory kept [\d.]+", told)) >= 2
    memory = float(re.search(r"the command takes ([\d.]+) GB at most", told)[1])
    assert 0.3 < memory < 10


def test_a_way_that_differs_is_not_timed(module, painted_set, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "build_rungs", lambda *args: [])
    monkeypatch.setattr(module, "require_equal", lambda *args: None)
    monkeypatch.setattr(sys.modules["pe_unified.benchmarks.whole_study"], "MOST_DIFFERENCE", -1.0)
    monkeypatch.setattr(module, "_stock_seconds", lambda *args: pytest.fail("timed"))
    with pytest.raises(SystemExit, match="nothing was timed"):
        module.run(
            arguments(module, painted_set, tmp_path, "--ladder-slices", "0", "--ways", "torch-fp32")
        )


def test_int8_is_exported_beforehand_and_taken_for_nothing_else(module, painted_set, tmp_path):
    args = arguments(module, painted_set, tmp_path, "--ways")
    predictor_of = sys.modules["pe_unified.benchmarks.whole_study"].predictor_of
    place = tmp_path / "m.openvino-int8"
    with pytest.raises(SystemExit, match=rf"--int8 --data-root DATA --out {place}"):
        predictor_of(args, "openvino-int8")
    assert not predictor_of(args, "openvino-bf16").model.int8
    shutil.copytree(tmp_path / "m.openvino", place)
    with pytest.raises(SystemExit, match=r"m\.openvino-int8 is not in int8"):
        predictor_of(args, "openvino-int8-nogate")
    manifest = json.loads((place / "export.json").read_text())
    (place / "export.json").write_text(json.dumps({**manifest, "int8": {"parts": ["decoder"]}}))
    predictor = predictor_of(args, "openvino-int8-nogate")
    assert predictor.model.int8 == ["decoder"] and predictor.gate is None
    shutil.copytree(place, tmp_path / "m.openvino", dirs_exist_ok=True)
    with pytest.raises(SystemExit, match=r"m\.openvino is in int8"):
        predictor_of(args, "openvino-bf16")


def test_memory_of_a_longer_study(module, painted_set, tmp_path, capsys, monkeypatch):
    args = arguments(module, painted_set, tmp_path, "--memory-of", "40", "--ways", "torch-fp32")
    looked_at = []

    def tell(args, way, study, folder):
        with open_study(study) as opened:
            looked_at.append((way, opened.shape, opened.missing_slices))

    monkeypatch.setattr(module, "tell_memory", tell)
    assert module.run(args) == []
    assert looked_at == [("torch-fp32", (40, 64, 64), 0)]
