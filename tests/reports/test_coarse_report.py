"""A report of thin slices, of which some are passed over."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from studies import VALIDATED, write_checkpoint

import pe_unified.reports
from pe_unified.ct.opening import open_study
from pe_unified.evaluation.exam_score import exam_probability
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.reports.analysis import AnalysisOptions, analyse_study
from pe_unified.reports.report import verdict_in_words

pytestmark = pytest.mark.usefixtures("without_dicom")

SCHEMA = json.loads(Path(pe_unified.reports.__file__).with_name("report.schema.json").read_text())


@pytest.fixture(scope="module")
def thin(folder, tmp_path_factory):
    """A painted study as if its slices lay 1 mm apart."""
    with open_study(folder) as study:
        hu = study.all_hu()
        row, col, _ = study.known_spacing()
    file = tmp_path_factory.mktemp("thin") / "ct.nii"
    volume = np.transpose(hu, (2, 1, 0))
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([col, row, 1.0, 1.0])), file)
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """No slice reaches its coarse gate, and it finds no lesion."""
    fixed = {"cls/coarse_gate": 1.0, "cls/coarse_gate_lost": 0.004}
    fixed |= {"cls/coarse_gate_positives": 250.0, "cls/coarse_gate_studies": 4.0}
    path = tmp_path_factory.mktemp("model") / "m.pth"
    write_checkpoint(path, ("cls", "det"), {**VALIDATED, "det/threshold": 1.0, **fixed})
    return load_model(path, device="cpu", precision="fp32")


def test_what_was_looked_at_is_said(thin, model, tmp_path):
    whole = analyse_study(
        thin, tmp_path / "whole", StudyPredictor(model), AnalysisOptions(every_slice=True)
    )
    assert whole["reading"] == {
        "looked_at": 16,
        "passed_over": 0,
        "ranges": [{"first_slice": 0, "last_slice": 15, "every": 1}],
    }
    found = analyse_study(thin, tmp_path / "out", StudyPredictor(model))
    Draft202012Validator(SCHEMA).validate(found)
    looked_at = [0, 3, 6, 9, 12, 15]
    assert found["reading"] == {
        "looked_at": 6,
        "passed_over": 10,
        "ranges": [{"first_slice": 0, "last_slice": 15, "every": 3}],
    }
    for each, other in zip(found["slices"], whole["slices"], strict=True):
        if each["index"] in looked_at:
            assert each["probability"] == pytest.approx(other["probability"], abs=1e-4)
        else:
            assert each["probability"] is None and not each["examined"]
    with (tmp_path / "out" / "slices.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows if row["probability"]] == looked_at
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    line = re.search(r'class="probability" points="(.*?)"', text)[1].split()
    assert len(line) == 6  # one curve, straight between those looked at
    assert "6 slices were looked at. 10 thin slices" in text
    assert "coarse_gate 1.0000" in text and "250 positive slices left out" in text
    assert "thin slices" not in (tmp_path / "whole" / "report.html").read_text("utf-8")


def test_the_verdict_runs_straight_between_the_slices_looked_at(thin, model, tmp_path):
    found = analyse_study(thin, tmp_path / "score", StudyPredictor(model))
    known = {each["index"]: each["probability"] for each in found["slices"][::3]}
    along = np.interp(range(16), list(known), list(known.values()))
    score = exam_probability(along, 1.0)
    assert found["exam"]["probability"] == pytest.approx(score, abs=2e-4)
    assert "on a straight line between those that were looked at" in found["exam"]["rule"]
    # A called stretch is in slices of the study, those passed over among them.
    called = replace(model, thresholds=replace(model.thresholds, exam=round(score - 1e-3, 4)))
    found = analyse_study(thin, tmp_path / "called", StudyPredictor(called))
    means = np.convolve(along, np.ones(6) / 6, mode="valid")
    inside = {k + j for k in np.flatnonzero(means >= score - 1e-3) for j in range(6)}
    assert {each["index"] for each in found["slices"] if each["called"]} == inside
    (stretch, *_) = found["exam"]["stretches"]
    assert stretch["first_slice"] == min(inside) and inside & {1, 2, 4, 5, 7, 8, 10, 11, 13, 14}
    found |= {"lesions": [{"called": True}], "exam": {**found["exam"], "positive": True}}
    found["exam"]["stretches"] = [{"first_slice": 3, "last_slice": 7}]
    assert verdict_in_words(found) == "called positive: 1 lesion and slices 3 to 7"
    found["exam"]["stretches"] = [{"first_slice": 3, "last_slice": 3}]
    assert verdict_in_words(found) == "called positive: 1 lesion and slice 3"


def test_a_study_with_marks_is_looked_at_whole(thin, model, tmp_path):
    marks = tmp_path / "marks.csv"
    marks.write_text("id,x,y,z,prob\nct,0,0,4,0.9\n")
    options = AnalysisOptions(marks=marks)
    found = analyse_study(thin, tmp_path / "out", StudyPredictor(model), options)
    assert found["lesions"] and found["reading"]["passed_over"] == 0
