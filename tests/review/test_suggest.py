"""What is worth reading: the formula by hand, its limits, and the table."""

import copy
import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_reports import MODEL, decision, write_report

from pe_unified.review.store import ReviewStore
from pe_unified.review.suggest import entropy, moved, suggest, worth_of


def lesion(score, slice_score=0.9, mask_score=0.9, box_score=0.9, can_be_clot=True):
    own = {"slice_score": slice_score, "mask_score": mask_score, "box_score": box_score}
    return {"score": score, "can_be_clot": can_be_clot, **own}


def a_slice(probability, pixels, boxes, examined=True):
    own = {"embolus_pixels": pixels, "boxes": [{}] * boxes, "examined": examined}
    return {"probability": probability, **own}


REPORT = {
    "model": {"tasks": ["cls", "seg", "det"], "sha256": MODEL},
    "thresholds": {"slice": 0.4},
    "exam": {"probability": 0.8, "threshold": 0.5, "lesion_threshold": 0.6},
    "exam_model": None,
    # Moved from a threshold of 0.6: odds are divided by 1.5.
    "lesions": [lesion(0.6, box_score=None), lesion(0.75), lesion(0.6, can_be_clot=False)],
    "slices": [
        a_slice(0.5, 9, 1),  # all see it
        a_slice(0.3, 9, 0),  # one of three
        a_slice(0.3, 0, 0),  # none
        a_slice(None, 0, 0, examined=False),
    ],
}


def bits(p):
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


def test_the_formula_by_hand():
    found = worth_of(REPORT)
    assert found.exam == pytest.approx(bits(0.8))
    total = bits(0.5) + bits(2 / 3)  # odds 3 / 1.5
    assert found.lesions == pytest.approx(total / (1 + total))
    assert found.slices == pytest.approx((0 + 2 / 3) / 2)
    assert found.heads == pytest.approx((0.5 * 2 / 3 + 2 / 3 * 0) / (0.5 + 2 / 3))
    parts = (found.exam, found.lesions, found.slices, found.heads)
    assert found.worth == pytest.approx(sum(parts) / 4)


def test_the_more_doubtful_answer_on_the_exam_counts():
    report = copy.deepcopy(REPORT)
    report["exam_model"] = {"score": 0.31, "probability": 0.9, "threshold": 0.3}
    assert worth_of(report).exam > 0.99
    report["exam_model"] = {"score": None, "probability": None, "threshold": None}
    assert worth_of(report).exam == pytest.approx(bits(0.8))


def test_a_model_of_one_task_disagrees_with_nobody():
    report = copy.deepcopy(REPORT)
    report["model"]["tasks"], report["lesions"] = ["cls"], []
    found = worth_of(report)
    assert (found.lesions, found.slices, found.heads) == (0, 0, 0)
    assert found.worth == pytest.approx(bits(0.8) / 4)


@given(st.floats(0, 1), st.floats(0.01, 0.99))
def test_entropy_is_largest_at_the_threshold(score, threshold):
    assert entropy(threshold, threshold) == pytest.approx(1)
    assert 0 <= entropy(score, threshold) <= 1
    assert (moved(score, threshold) > 0.5) == (score > threshold) or abs(score - threshold) < 1e-9


def write_study(root, name, probability):
    folder = write_report(root / name, study=f"1.{name}")
    stored = json.loads((folder / "report.json").read_text())
    report = {**stored, **copy.deepcopy(REPORT), "input": stored["input"]}
    report["exam"]["probability"] = probability
    for each in report["slices"]:
        each["sop_uid"] = None
    (folder / "report.json").write_text(json.dumps(report))


def test_unread_studies_are_ranked(tmp_path):
    for name, probability in (("a", 0.99), ("b", 0.5), ("c", 0.7), ("d", 0.5)):
        write_study(tmp_path, name, probability)
    store = ReviewStore(tmp_path)
    store.add(decision("accept", 1, study="1.d"))
    rows, faults = suggest(tmp_path, tmp_path / "next.csv")
    assert not faults
    assert [(row["rank"], row["folder"]) for row in rows] == [(1, "b"), (2, "c"), (3, "a")]
    with (tmp_path / "next.csv").open() as file:
        stored = list(csv.DictReader(file))
    assert [row["study"] for row in stored] == ["1.b", "1.c", "1.a"]
    assert float(stored[0]["worth"]) == pytest.approx(rows[0]["worth"])
    rows, _ = suggest(tmp_path, tmp_path / "x.csv", every=True)
    assert [row["folder"] for row in rows][:2] == ["b", "d"]
