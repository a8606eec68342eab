"""The benchmark of exam models runs, and measures both sides of each part."""

import argparse
import importlib
import re
import subprocess
import sys

import pytest
import torch
from tiny_exams import write_tiny_exams

from pe_unified.benchmarks.arguments import ADD_ARGUMENTS
from pe_unified.benchmarks.common import in_turn
from pe_unified.inference.exam import load_exam_model
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor

TINY = ["--threads", "1", "--workers", "0", "--input-size", "32"]
TINY += ["--iterations", "2", "--warmup", "1", "--repeats", "1"]


@pytest.fixture(scope="module")
def module():
    before = torch.get_num_threads()
    yield importlib.import_module("pe_unified.benchmarks.exam")
    torch.set_num_threads(before)


def rows_of(module, *words):
    parser = argparse.ArgumentParser()
    ADD_ARGUMENTS["exam"](parser)
    rows = module.run(parser.parse_args([*TINY, *map(str, words)]))
    for row in rows:
        assert set(row) == {"case", "ours", "reference", "unit"}
        assert row["reference"] > 0 and row["ours"] > 0
    return rows


@pytest.mark.slow
def test_features_on_disk_and_the_memory_of_training(module, capsys, monkeypatch):
    features = importlib.import_module("pe_unified.benchmarks.exam_features")
    seen = []
    held_by = features._held_by
    monkeypatch.setattr(features, "_held_by", lambda pid: seen.append(held_by(pid)) or seen[-1])
    words = ["--exams", "10", "--slices", "5", "--width", "8", "--in-memory", "8"]
    speed, memory = rows_of(module, "--parts", "features", *words, "--batch-size", "4")
    assert speed["case"] == "10 exams of 5 x 8, features on disk / 8 in memory"
    assert memory["reference"] == 1 and memory["unit"] == "GB"
    told = capsys.readouterr().out
    private, resident, _ = (float(each) for each in re.findall(r"([\d.]+) GB", told))
    assert 0.1 < private <= resident < 4  # torch alone takes that much
    assert memory["ours"] == pytest.approx(max(own for own, _, _ in seen))


@pytest.mark.slow
def test_memory_that_processes_share_counts_once():
    """In a process of its own, which has no other children."""
    program = """
import os
from pe_unified.benchmarks.exam_features import _held_by

block = bytearray(os.urandom(1 << 20)) * 100  # 0.1 GB that is really there
before, resident, alone = _held_by(os.getpid())
assert alone and 0.1 < before < resident, (before, resident, alone)
reading, writing = os.pipe()
child = os.fork()
if not child:  # holds what the parent holds, and ends with it
    os.close(writing)
    os.read(reading, 1)
    os._exit(0)
together, _, alone = _held_by(os.getpid())
os.close(writing)
os.waitpid(child, 0)
assert not alone and abs(together - before) < 0.05, (before, together, alone)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_extracting_and_waiting(module, tmp_path):
    data = write_tiny_exams(tmp_path / "data", slices=8, splits={"train": 4, "val": 1, "test": 1})
    extract, *waiting = rows_of(
        module, "--parts", "extract", "waiting", "--data-root", data, "--warmup", 0
    )
    assert extract["case"].startswith("exam/shared_features, 32 x 32, 4 exams, 0 workers")
    assert [row["case"].split(",")[0] for row in waiting] == [
        *("exam/two_phase_chunks", "exam/semi_weak")
    ]
    assert all(row["ours"] < row["reference"] for row in waiting)


@pytest.mark.slow
def test_a_study_through_both_models(module, folder, capsys):
    (row,) = rows_of(module, "--parts", "study", "--study", folder)
    assert row["case"] == (
        "16 slices of 64 x 64, network 32 x 32: slice and exam model / slice model"
    )
    assert "shares the backbone (True)" in capsys.readouterr().out


@pytest.mark.slow
def test_the_pair_is_what_the_recipe_makes(module, tmp_path):
    study = importlib.import_module("pe_unified.benchmarks.exam_study")
    slices, exams = study.untrained_pair(tmp_path)
    model = load_model(slices, device="cpu")
    exam = load_exam_model(exams, device="cpu")
    assert model.size == (512, 512) and StudyPredictor(model, exam_model=exam).shares_backbone
    assert type(exam.model.aggregator).__name__ == "GRUAggregator"


def test_both_sides_come_first_in_turn():
    order = []

    def side(name, values):
        return lambda: order.append(name) or values.pop()

    found = in_turn(side("ours", [5.0, 1.0, 3.0]), side("reference", [2.0, 2.0, 8.0]), 3)
    assert found == (3.0, 2.0)
    assert order == ["ours", "reference", "reference", "ours", "ours", "reference"]
