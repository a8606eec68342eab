"""Many studies on all cores, beside one core with its share."""

import argparse
import os

import pytest
from studies import write_checkpoint

from pe_unified.benchmarks import batch
from pe_unified.benchmarks.arguments import ADD_ARGUMENTS
from pe_unified.errors import UserError


def rows_of(*words):
    parser = argparse.ArgumentParser()
    ADD_ARGUMENTS["batch"](parser)
    return batch.run(parser.parse_args([str(word) for word in words]))


def folder_of(painted_set, tmp_path, count):
    """Of links to studies, the first of them again and again."""
    study = sorted(painted_set[1].parent.glob("CT_scans/*"))[0]
    for number in range(count):
        (tmp_path / f"case{number}").symlink_to(study)
    return tmp_path


def test_shares_that_differ_are_refused(painted_set, tmp_path):
    with pytest.raises(UserError, match="3 studies for 2 workers"):
        rows_of("--studies", folder_of(painted_set, tmp_path, 3), "--workers", 2)


@pytest.mark.slow
def test_each_core_has_its_share(painted_set, tmp_path_factory, monkeypatch):
    folder = folder_of(painted_set, tmp_path_factory.mktemp("studies"), 2)
    model = write_checkpoint(tmp_path_factory.mktemp("model") / "m.pth")
    asked = []

    def noted(checkpoint, studies, cores, out, real=batch._seconds):
        asked.append(([each.name for each in studies], list(cores)))
        return real(checkpoint, studies, cores, out)

    monkeypatch.setattr(batch, "_seconds", noted)
    (row,) = rows_of("--studies", folder, "--checkpoint", model, "--workers", 2)
    first, second = sorted(os.sched_getaffinity(0))[:2]
    assert asked == [
        (["case0"], [first]),
        (["case1"], [second]),
        (["case0", "case1"], [first, second]),
    ]
    assert row["ours"] > 0 and row["reference"] > 0


@pytest.mark.slow
def test_a_run_that_failed_is_told(painted_set, tmp_path):
    folder = folder_of(painted_set, tmp_path, 1)
    with pytest.raises(UserError, match=r"nothing\.pth"):
        rows_of("--studies", folder, "--checkpoint", tmp_path / "nothing.pth", "--workers", 1)
