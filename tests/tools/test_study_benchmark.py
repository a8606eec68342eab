"""The benchmark of a whole study runs, and times nothing that differs."""

import argparse
import importlib
import re
from pathlib import Path

import pytest
import torch
from studies import write_checkpoint

from pe_unified.ct.study import open_study
from pe_unified.testing import tiny_model_config


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "tools"))
    module = importlib.import_module("benchmarks.study")
    monkeypatch.setitem(module.BACKBONES, "R50", tiny_model_config()["backbone"])
    before = torch.get_num_threads()
    yield module
    torch.set_num_threads(before)


def arguments(module, painted_set, tmp_path):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    study = sorted(painted_set[1].parent.glob("CT_scans/*"))[0]
    words = ["--checkpoint", str(write_checkpoint(tmp_path / "m.pth")), "--study", str(study)]
    return parser.parse_args([*words, "--size", "64", "--threads", "1", "--ways", "torch-fp32"])


def test_rows_and_what_is_told(module, painted_set, tmp_path, capsys):
    (row,) = module.run(arguments(module, painted_set, tmp_path))
    assert set(row) == {"case", "ours", "reference", "unit"}
    assert row["ours"] > 0 and row["reference"] > 0
    assert row["case"].startswith("R50, 16 slices of 64 x 64, torch-fp32")
    told = capsys.readouterr().out
    assert "Dice of the masks 1.0000" in told and "TFLOP" in told
    assert "ms for every slice more" in told
    assert len(re.findall(r"s per slice: [\d.]+, with freed memory kept [\d.]+", told)) >= 2
    memory = float(re.search(r"the command takes ([\d.]+) GB at most", told)[1])
    assert 0.3 < memory < 10


def test_a_way_that_differs_is_not_timed(module, painted_set, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_DIFFERENCE", -1.0)
    with pytest.raises(SystemExit, match="nothing was timed"):
        module.run(arguments(module, painted_set, tmp_path))


def test_memory_of_a_longer_study(module, painted_set, tmp_path, capsys, monkeypatch):
    args = arguments(module, painted_set, tmp_path)
    args.memory_of = 40
    looked_at = []

    def tell(args, way, study, folder):
        with open_study(study) as opened:
            looked_at.append((way, opened.shape, opened.missing_slices))

    monkeypatch.setattr(module, "_tell_memory", tell)
    assert module.run(args) == []
    assert looked_at == [("torch-fp32", (40, 64, 64), 0)]
