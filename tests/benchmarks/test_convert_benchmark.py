"""The conversion benchmark runs on small slices and measures both sides."""

import argparse
import importlib

import pytest

from pe_unified.benchmarks.arguments import ADD_ARGUMENTS


@pytest.mark.parametrize("syntax", ["plain", "rle"])
def test_both_sides_are_measured(monkeypatch, syntax):
    module = importlib.import_module("pe_unified.benchmarks.convert")
    parser = argparse.ArgumentParser()
    ADD_ARGUMENTS["convert"](parser)
    words = "--patients 2 --slices 8 --size 96 --workers 1 --repeats 1 --syntax"
    rows = module.run(parser.parse_args([*words.split(), syntax]))
    assert [row["case"].split(",")[0] for row in rows] == ["fumpe", "rsna"]
    for row in rows:
        assert set(row) == {"case", "ours", "reference", "unit"}
        assert row["ours"] > 0 and row["reference"] > 0
