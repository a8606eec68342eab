"""Page, JSON, CSV, masks, SEG, SR and the row of the summary say the same, whatever is called."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pytest
from dicom_files import texts_of
from studies import VALIDATED, write_checkpoint

from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.reports.analysis import analyse_study
from pe_unified.reports.batch_table import row_of_report

SLOW = pytest.mark.slow
#: Exam and lesion thresholds: everything, nothing, one kind alone, undecided.
CASES = [
    (("cls", "seg", "det"), 0.3, 0.96),
    (("cls", "seg", "det"), 0.9, 0.999),
    (("cls", "seg", "det"), 0.9, 0.96),
    pytest.param(("cls", "seg", "det"), 0.9, None, marks=SLOW),
    pytest.param(("cls", "seg", "det"), None, 0.96, marks=SLOW),
    (("cls", "seg", "det"), None, None),
    (("cls",), 0.3, None),
    (("cls",), 0.9, None),
    (("seg",), None, 0.9),
    (("det",), None, 0.54),
    pytest.param(("det",), None, 0.99, marks=SLOW),
]


@pytest.fixture(scope="module")
def predictors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    made = {}
    for heads in (("cls", "seg", "det"), ("cls",), ("seg",), ("det",)):
        validated = {**VALIDATED, "det/threshold": 0.4} if heads == ("det",) else VALIDATED
        path = write_checkpoint(folder / f"{'_'.join(heads)}.pth", heads, validated)
        made[heads] = load_model(path, device="cpu", precision="fp32")
    return made


@pytest.mark.parametrize(("heads", "exam", "lesion"), CASES)
def test_nothing_contradicts(folder, predictors, tmp_path, heads, exam, lesion):
    model = predictors[heads]
    thresholds = replace(model.thresholds, exam=exam, lesion=lesion)
    out = tmp_path / "study"
    report = analyse_study(folder, out, StudyPredictor(replace(model, thresholds=thresholds)))
    verdict, lesions, slices = report["exam"], report["lesions"], report["slices"]
    called = [each for each in lesions if each["called"]]
    listed = [each for each in lesions if each["called"] is not False]
    assert bool(lesions) == (heads != ("cls",))

    # The exam, its stretches and lesions.
    assert verdict["positive"] in ([None] if (exam, lesion) == (None, None) else [True, False])
    assert bool(verdict["positive"]) == bool(called or verdict["stretches"])
    assert all(each["can_be_clot"] for each in listed)
    if verdict["positive"] is False:
        assert not listed
    assert ("a stretch" in verdict["rule"]) == (exam is not None)
    assert ("a lesion" in verdict["rule"]) == (lesion is not None)
    assert ("no threshold is set" in verdict["rule"]) == (verdict["positive"] is None)

    # The slices, in JSON and CSV.
    inside = {
        index
        for each in (*verdict["stretches"], *called)
        for index in range(each["first_slice"], each["last_slice"] + 1)
    }
    with (out / "slices.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for each, row in zip(slices, rows, strict=True):
        expected = None if verdict["positive"] is None else each["index"] in inside
        assert each["called"] is expected
        assert row["called"] == ("" if expected is None else str(int(expected)))
        assert row["embolus_pixels"] == str(each["embolus_pixels"])
        if expected is False:
            assert row["embolus_pixels"] == row["boxes"] == "0" and not row["highest_box_score"]

    # The masks and the DICOM objects.
    numbers = {each["number"] for each in listed if each["volume_ml"] is not None}
    assert (out / "mask.nii.gz").exists() == ("seg" in heads)
    if "seg" in heads:
        mask = np.asanyarray(nibabel.load(out / "mask.nii.gz").dataobj)
        assert set(np.unique(mask).tolist()) - {0} == numbers
    assert (out / "mask.seg.dcm").exists() == bool(numbers)
    structured = hd.sr.srread(out / "findings.sr.dcm")
    groups = [
        *structured.content.get_volumetric_roi_measurement_groups(),
        *structured.content.get_planar_roi_measurement_groups(),
    ]
    tracked = {group.tracking_identifier for group in groups}
    assert tracked == {f"lesion {each['number']}" for each in listed}

    # The words on the page, in the SR and in the summary.
    row = row_of_report("study", report)
    word = {
        True: "called positive",
        False: "called negative: nothing is called",
        None: "not called",
    }
    begins = word[verdict["positive"]]
    assert row["positive"] is verdict["positive"] and row["verdict"].startswith(begins)
    assert row["lesions"] == (None if heads == ("cls",) else len(listed))
    text = Path(out / "report.html").read_text("utf-8")
    (shown,) = re.findall(r'<section class="answer">\s*<div><b>(.*?)</b>(.*?)</div>', text)
    assert shown[0] == {True: "positive", False: "negative", None: "no call"}[verdict["positive"]]
    assert shown[1] == row["verdict"] and row["verdict"] in texts_of(structured)
    keys = re.findall(r'<img alt="lesion (\d+)"', text)
    assert keys == [str(each["number"]) for each in listed[:6]]
