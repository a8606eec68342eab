import csv

import numpy as np
import pytest
import torch
from exam_samples import answered_exam

from pe_unified.ct.exam_labels import EXAM_WEIGHTS
from pe_unified.errors import UserError
from pe_unified.evaluation.consistency import check
from pe_unified.evaluation.submission import AnsweredExam, SubmissionError, write_submission


def exam(study="1.2.3", **changes):
    fields = dict(
        study_uid=study,
        probability=np.array([0.9, *[0.1] * 8]),
        sop_uids=[f"{study}.{index}" for index in range(3)],
        slice_probability=np.array([0.1, 0.2, 1 / 3]),
    )
    return AnsweredExam(**{**fields, **changes})


def read(path):
    with path.open(newline="") as stream:
        return {row["id"]: row["label"] for row in csv.DictReader(stream)}


def test_the_file_is_that_of_the_challenge(tmp_path):
    path = tmp_path / "new" / "submission.csv"
    assert write_submission(path, [exam(), exam("1.2.4")]) == ()
    lines = path.read_text().splitlines()
    assert lines[0] == "id,label" and len(lines) == 1 + 2 * (9 + 3)
    assert lines[1] == "1.2.3_negative_exam_for_pe,0.900000"
    assert lines[10:13] == ["1.2.3.0,0.100000", "1.2.3.1,0.200000", "1.2.3.2,0.333333"]
    assert {f"1.2.4_{name}" for name in EXAM_WEIGHTS} < set(read(path))
    assert [each.name for each in path.parent.iterdir()] == ["submission.csv"]


def test_what_breaks_the_rules_is_repaired_in_the_file(tmp_path):
    """Positive by a slice alone: rounding must not undo what the repair raises."""
    broken = exam("1.2.4", slice_probability=np.array([0.1, 0.99, 0.9]))
    near = exam("1.2.5", probability=np.array([0.5 + 1e-9, *[0.1] * 8]))
    path = tmp_path / "submission.csv"
    assert write_submission(path, [exam(), broken, near], digits=4) == ("1.2.4", "1.2.5")
    written = read(path)
    for each in (broken, near):
        labels = [float(written[f"{each.study_uid}_{name}"]) for name in EXAM_WEIGHTS]
        assert check(labels, [float(written[uid]) for uid in each.sop_uids]) == []
    assert written["1.2.5_negative_exam_for_pe"] == "0.5001"


def test_a_sample_of_an_exam_model_is_submitted(tmp_path):
    sample = answered_exam(4, True, 0.8)
    write_submission(tmp_path / "submission.csv", [AnsweredExam.of_sample(sample.to_dict())])
    written = read(tmp_path / "submission.csv")
    assert len(written) == 9 + 4
    assert written["1.2.4_central_pe"] == written["1.2.4.0"] == "0.800000"
    assert written["1.2.4_negative_exam_for_pe"] == "0.200000"


@pytest.mark.parametrize(
    ("exams", "message"),
    [
        ([], "no exam to submit"),
        ([exam(), exam()], "'1.2.3_negative_exam_for_pe' appears twice"),
        ([exam(sop_uids=["a", "b", "a"])], "'a' appears twice"),
        (
            [exam(probability=np.array([0.9, *[0.1] * 7, np.nan]))],
            "no answer for rv_lv_ratio_lt_1",
        ),
        ([exam(sop_uids=["a"])], "1.2.3: 3 probabilities for 1 slices"),
        ([exam(sop_uids=[], slice_probability=np.zeros(0))], "for 0 slices"),
        ([exam(slice_probability=np.array([0.1, np.nan, 0.2]))], "NaN"),
    ],
)
def test_what_makes_no_submission_leaves_no_file(tmp_path, exams, message):
    path = tmp_path / "submission.csv"
    with pytest.raises(SubmissionError, match=message):
        write_submission(path, exams)
    assert not path.exists() and issubclass(SubmissionError, UserError)


def test_a_model_without_steps_is_told_what_it_lacks():
    sample = answered_exam(4, True, 0.8, pred_steps=None)
    with pytest.raises(SubmissionError, match=r"1\.2\.4: .* step head"):
        AnsweredExam.of_sample(sample.to_dict())
    chunks = answered_exam(4, True, 0.8, pred_steps=torch.rand(2))
    with pytest.raises(SubmissionError, match="2 probabilities for 4 slices"):
        write_submission("unwritten.csv", [AnsweredExam.of_sample(chunks.to_dict())])
