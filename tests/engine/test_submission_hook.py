"""What `pe-unified test` tells of exams beside the metrics."""

import csv
import json

import pytest
from tiny_exam_run import small_exam_config
from tiny_exams import write_tiny_exams

from pe_unified.ct.exam_labels import EXAM_TARGETS, EXAM_WEIGHTS
from pe_unified.disclaimer import UNKNOWN_LINE
from pe_unified.engine import PERunner
from pe_unified.evaluation.calibration import ppv_npv
from pe_unified.evaluation.consistency import check

SPAN = "test_dataloader.dataset.steps.span=all"


@pytest.fixture(scope="module")
def trained(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exams")
    data = write_tiny_exams(folder / "data")
    cfg = small_exam_config(repository, data, folder / "run", "semi_weak", max_iters=2)
    PERunner.from_cfg(cfg).train()
    return data, folder / "run/iter_2.pth"


@pytest.fixture
def tested(trained, command, tmp_path):
    data, checkpoint = trained

    def run(*words):
        return command(
            "test",
            *("exam/semi_weak", checkpoint, "--data-root", data, "--work-dir", tmp_path),
            *words,
            *("--cfg-options", "num_workers=0", "precision=fp32"),
        )

    return run


def test_the_submission_has_every_label_and_every_slice_and_keeps_the_rules(tested, tmp_path):
    file = tmp_path / "submission.csv"
    done = tested("--submission", file, "--prevalence", "0.2", "--cfg-options", SPAN)
    assert done.returncode == 0, done.stderr
    rows = {row["id"]: float(row["label"]) for row in csv.DictReader(file.open())}
    assert len(rows) == 4 * (len(EXAM_WEIGHTS) + 12)
    for study in range(12, 16):
        labels = [rows[f"1.2.{study}_{name}"] for name in EXAM_WEIGHTS]
        slices = [rows[f"1.2.{study}.1.{index}"] for index in range(12)]
        assert check(labels, slices) == []
    told = json.loads((tmp_path / "metrics.json").read_text())
    assert set(told["exam"]["delong"]) == set(EXAM_TARGETS)
    metrics = told["metrics"]
    ppv, npv = ppv_npv(metrics["exam/sensitivity"], metrics["exam/specificity"], 0.2)
    found = told["exam"]["ppv"], told["exam"]["npv"]
    assert [x for x in found if x is not None] == pytest.approx([x for x in (ppv, npv) if x == x])
    assert told["exam"]["delong"]["positive_exam_for_pe"][0] == pytest.approx(metrics["exam/auc"])
    assert told["notice"] == UNKNOWN_LINE  # the set does not say whether it is painted
    assert (tmp_path / "reliability.png").is_file() and (tmp_path / "exam_roc.png").is_file()


def test_a_test_that_does_not_look_at_every_slice_makes_no_submission(tested, tmp_path):
    file = tmp_path / "submission.csv"
    done = tested("--submission", file)
    assert done.returncode == 1 and "the challenge asks for every slice" in done.stderr
    assert not file.exists()


def test_a_prevalence_is_a_share(tested):
    done = tested("--prevalence", "15")
    assert done.returncode == 2 and "a number from 0 to 1" in done.stderr
