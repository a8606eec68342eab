"""Exams of RSNA-STR PE whose labels contradict each other or their slices are told by name."""

import json
import sys

import pytest
from raw_sets import rsna_row, write_csv, write_rsna_study

from pe_unified.converters.inspection import inspect_set
from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults, report_warnings
from pe_unified.converters.raw.rsna import Rsna, main
from pe_unified.converters.raw.rsna_subset import Subset
from pe_unified.converters.verify import main as verify_main
from pe_unified.ct.exam_labels import EXAM_LABELS, exam_doubts

QUIET = RunOptions(quiet=True)
#: Study to the labels of its slices, and what differs from a consistent exam of these.
STUDIES = {
    "sound": ([0, 1, 0], {}),
    "negative": ([0, 0, 0], {}),
    "indeterminate": ([0, 0, 0], {"negative_exam_for_pe": 0, "indeterminate": 1}),
    "no_slice": (
        [0, 0, 0],
        {"negative_exam_for_pe": 0, "rightsided_pe": 1, "rv_lv_ratio_lt_1": 1},
    ),
    "all_slices": ([1, 1, 1], {}),
    "no_side": ([0, 1, 1], {"rightsided_pe": 0}),
}
WARNED = {
    "all_slices: study all_slices: all of its 3 slices are positive",
    "no_side: study no_side: none of leftsided_pe, rightsided_pe, central_pe",
    "no_slice: study no_slice: positive for PE, yet none of its 3 slices is",
}


@pytest.fixture
def raw(tmp_path):
    rows = []
    for study, (labels, changes) in STUDIES.items():
        write_rsna_study(tmp_path / "raw", study, labels)
        rows += [
            rsna_row(study, f"{study}-{k}", label, any(labels), **changes)
            for k, label in enumerate(labels)
        ]
    write_csv(tmp_path / "raw" / "train.csv", rows)
    return tmp_path / "raw"


def test_by_the_conversion_and_by_verify(raw, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    argv = ["rsna_to_coco.py", str(raw), str(out), "--workers", "1", "--quiet"]
    monkeypatch.setattr(sys, "argv", argv)
    assert main() == 0, "what may be right stops nobody"
    printed = capsys.readouterr().err
    assert all(f"warning: {line}" in printed for line in WARNED)
    report = json.loads((out / "conversion_report.json").read_text())
    assert set(report_warnings(report)) == WARNED and report_faults(report) == []
    monkeypatch.setattr(sys, "argv", ["verify.py", str(out), "--workers", "1"])
    assert verify_main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.removeprefix("warning: ") for line in lines[:-1]} == WARNED
    assert lines[-1] == f"{out}: no fault, 3 warnings"


def test_verify_looks_for_itself(raw, tmp_path):
    out = tmp_path / "out"
    convert(Rsna(raw), out, QUIET)
    for path in (out / "annotations").glob("*.json"):
        content = json.loads(path.read_text())
        for exam in content["exams"]:
            if exam["study_uid"] == "sound":
                exam.update(chronic_pe=1, acute_and_chronic_pe=1)
        path.write_text(json.dumps(content))
    warnings = [each.text for each in inspect_set(out).warnings]
    both = "sound: study sound: both of chronic_pe and acute_and_chronic_pe"
    assert set(warnings) == WARNED | {both}


def test_a_subset_is_judged_by_all_its_slices(raw, tmp_path):
    """Of most exams only negative slices are converted."""
    subset = Subset(positives=0, negatives=9, per_study=2, from_positive=0.4, seed=0)
    out = tmp_path / "out"
    report = convert(Rsna(raw, subset=subset), out, QUIET)
    assert set(report_warnings(report)) <= WARNED
    assert [each.text for each in inspect_set(out).warnings] == report_warnings(report)


@pytest.mark.parametrize(
    ("labels", "positives", "doubt"),
    [
        ({"indeterminate": 1}, 2, "indeterminate, yet 2 slices are positive"),
        ({"rv_lv_ratio_lt_1": 1, "rv_lv_ratio_gte_1": 1, "central_pe": 1}, 1, "both of rv_lv"),
        ({"central_pe": 1}, 1, "none of rv_lv_ratio_gte_1 and rv_lv_ratio_lt_1"),
        ({"negative_exam_for_pe": 1, "indeterminate": 1}, 0, "both negative and indeterminate"),
        ({"negative_exam_for_pe": 1, "central_pe": 1}, 0, "negative, yet labelled central_pe"),
        ({"negative_exam_for_pe": 1, "qa_motion": 1}, 0, None),
    ],
)
def test_the_other_rules(labels, positives, doubt):
    found = exam_doubts({**dict.fromkeys(EXAM_LABELS, 0), **labels}, positives, 5)
    assert any(each.startswith(doubt) for each in found) if doubt else found == []


def test_unknown_labels_break_no_rule():
    assert exam_doubts(dict.fromkeys(EXAM_LABELS), 2, 5) == []
    assert exam_doubts(dict.fromkeys(EXAM_LABELS), 0, 5) == []
