"""The benchmark of scoring runs on small masks, and both sides measure the same."""

import argparse

import nibabel
import numpy as np

from pe_unified.benchmarks import evaluate as module
from pe_unified.benchmarks.arguments import ADD_ARGUMENTS


def arguments(words):
    parser = argparse.ArgumentParser()
    ADD_ARGUMENTS["evaluate"](parser)
    return parser.parse_args(words.split())


def test_both_sides_are_measured(tmp_path):
    args = arguments("--cases 2 --slices 30 --size 48 --lesions 3 --workers 1")
    rows = module.run(args)
    assert [row["unit"] for row in rows] == ["s", "GiB"] * 2
    assert min(min(row["ours"], row["reference"]) for row in rows) > 0
    module.write_cases(tmp_path, args)
    masks = nibabel.load(tmp_path / "masks/case01.nii.gz").get_fdata()
    probabilities = nibabel.load(tmp_path / "probabilities/case01.nii.gz").get_fdata()
    np.testing.assert_array_equal(masks > 0, probabilities >= 0.5)
