import argparse
import sys

import pytest

from pe_unified.benchmarks.arguments import ADD_ARGUMENTS


@pytest.fixture
def load(repository, monkeypatch):
    yield __import__("pe_unified.benchmarks.load", fromlist=["run"])
    sys.modules.pop("pe_unified.benchmarks.load", None)


@pytest.mark.slow
def test_wait_is_a_part_of_the_iteration(load, tiny_dataset):
    parser = argparse.ArgumentParser()
    ADD_ARGUMENTS["load"](parser)
    words = ["--data-root", str(tiny_dataset), "--configs", "pe_cls_r50", "--input-size", "64"]
    words += ["--batch-size", "2", "--workers", "0", "--iterations", "2", "--warmup", "1"]
    (row,) = load.run(parser.parse_args(words))
    assert 0 < row["ours"] < row["reference"]
    assert "pe_cls_r50" in row["case"] and row["unit"] == "s"
