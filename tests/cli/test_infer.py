"""tools/infer.py as a user calls it."""

import io
import json
import re
import subprocess
import sys

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from rich.console import Console
from studies import write_checkpoint, write_exam_checkpoint

from pe_unified.ct.opening import open_study

pytestmark = pytest.mark.usefixtures("without_dicom")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "m.pth")


@pytest.fixture
def run(command, checkpoint):
    def call(study, out, *options, tool="infer"):
        return command(tool, study, "--checkpoint", checkpoint, "--out", out, *options)

    return call


def test_a_folder_becomes_a_report(run, painted_set, tmp_path):
    folder = sorted((painted_set[1].parent / "CT_scans").iterdir())[0]
    done = run(folder, tmp_path / "out", "--pseudonymise", "--no-gate", "--every-slice")
    assert done.returncode == 0, done.stderr
    uid = pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID
    assert uid not in done.stdout and "lesions" in done.stdout
    assert re.search(r"series 2\.25\.\d+: 16 slices of 64 x 64", done.stdout)
    assert "not a medical device" in done.stdout
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert not report["model"]["gated"] and report["lungs"]["first_slice"] == 0


def test_scores_and_thresholds_are_shown_in_all_their_digits(load_tool, run, painted_set, tmp_path):
    folder = sorted((painted_set[1].parent / "CT_scans").iterdir())[0]
    assert run(folder, tmp_path / "out").returncode == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    report["exam"] |= {"probability": 0.7598, "threshold": 0.76}
    report["exam"] |= {"lesion_score": 0.0, "lesion_threshold": 0.0}
    told = Console(width=200, file=io.StringIO())
    load_tool("infer").print_report(told, report)
    text = told.file.getvalue()
    assert "stretch 0.7598 (from 0.7600), lesion 0.0000 (from 0.0000)" in text
    listed = [lesion for lesion in report["lesions"] if lesion["called"]]
    assert listed and all(f" {lesion['score']:.4f} " in text for lesion in listed)


def test_an_exam_model_is_asked_too(load_tool, run, painted_set, tmp_path):
    folder = sorted((painted_set[1].parent / "CT_scans").iterdir())[0]
    exam = write_exam_checkpoint(tmp_path / "exam.pth")
    done = run(folder, tmp_path / "out", "--exam-checkpoint", exam)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out/report.json").read_text())
    block = report["exam_model"]
    assert f"(score {block['score']:.4f}, called positive from 0.4000)" in done.stdout
    assert "the exam model: not known what it was trained on" in done.stdout
    for positive, verdict in ((True, False), (False, True), (True, True)):
        block |= {"positive": positive, "agrees": positive == verdict}
        report["exam"]["positive"] = verdict
        told = Console(width=200, file=io.StringIO())
        load_tool("infer").print_report(told, report)
        words = {True: "positive", False: "negative"}
        line = f"calls this exam {words[positive]}, the verdict is {words[verdict]}"
        assert (line in told.file.getvalue()) == (positive != verdict)


def test_models_of_the_wrong_kind_are_one_line(command, checkpoint, tmp_path):
    exam = write_exam_checkpoint(tmp_path / "exam.pth")
    case = tmp_path / "cases" / "case"
    case.mkdir(parents=True)
    for model, other in ((exam, exam), (checkpoint, checkpoint)):
        words = ["--checkpoint", model, "--exam-checkpoint", other, "--out", tmp_path / "out"]
        for tool, study in (("infer", case), ("infer_batch", case.parent)):
            done = command(tool, study, *words)
            assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
            option = "--exam-checkpoint" if model == exam else "--checkpoint"
            assert f"is needed; pe-unified infer takes it as {option}" in done.stderr


def test_a_coarse_volume_is_analysed(run, tmp_path):
    rows, cols = 57, 78
    volume = sitk.GetImageFromArray(np.full((20, rows, cols), -200, np.int16))
    volume.SetSpacing((2.7, 2.7, 5.0))
    sitk.WriteImage(volume, str(tmp_path / "small.mha"))
    done = run(tmp_path / "small.mha", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"20 slices of {rows} x {cols}, 2.70 x 2.70 x 5.00 mm" in done.stdout


@pytest.mark.slow
def test_a_fault_is_one_line(repository, checkpoint, tmp_path):
    """In a process of its own. tests/reports/test_hard_to_break.py has many more, in one."""
    (tmp_path / "thesis.dcm").write_bytes(b"%PDF-1.7 not a slice" * 20)
    words = [sys.executable, "tools/infer.py", tmp_path / "thesis.dcm", "--checkpoint", checkpoint]
    words += ["--out", tmp_path / "out"]
    done = subprocess.run(words, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def write_meta_image(path, folder):
    """The slices of a folder as one MetaImage file."""
    with open_study(folder) as study:
        image = sitk.GetImageFromArray(study.all_hu())
        row, col, step = study.spacing_mm
        image.SetSpacing((col, row, step))
        image.SetOrigin(study.origin_mm)
    sitk.WriteImage(image, str(path), useCompression=True)


@pytest.mark.slow
def test_a_batch_names_what_failed_and_exits_non_zero(run, painted_set, tmp_path):
    folder = sorted((painted_set[1].parent / "CT_scans").iterdir())[0]
    (tmp_path / "cases" / "empty").mkdir(parents=True)
    (tmp_path / "cases" / "good").symlink_to(folder)
    (tmp_path / "cases" / "list.xlsx").write_bytes(b"x")
    write_meta_image(tmp_path / "cases" / "volume.mha", folder)
    done = run(tmp_path / "cases", tmp_path / "out", "--workers", "1", tool="infer_batch")
    assert done.returncode == 1
    assert "2 of 3 studies analysed" in done.stdout
    assert "skipped 1 files (list.xlsx): neither folders, volume files nor archives" in done.stdout
    assert done.stderr.strip().startswith("empty: empty: no axial CT slice; point to the folder")
    reports = [
        json.loads((tmp_path / "out" / name / "report.json").read_text())
        for name in ("good", "volume.mha")
    ]
    assert reports[0]["exam"] == reports[1]["exam"]
    assert reports[1]["input"]["kind"] == "volume file"
    (tmp_path / "cases" / "empty").rmdir()
    again = run(tmp_path / "cases", tmp_path / "out", "--workers", "1", tool="infer_batch")
    assert again.returncode == 0 and "2 of 2 studies analysed" in again.stdout


def test_of_several_studies_one_must_be_chosen(command, painted_set, tmp_path, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    checkpoint, out = write_checkpoint(elsewhere / "m.pth", ("cls",)), elsewhere / "out"
    first, second = sorted((painted_set[1].parent / "CT_scans").iterdir())[:2]
    for folder, date in ((first, "20190101"), (second, "20210101")):
        for file in folder.iterdir():
            one = pydicom.dcmread(file)
            one.PatientID, one.StudyDate = "P1", date
            one.save_as(tmp_path / f"{date}-{file.name}")
    uid = one.StudyInstanceUID
    words = ["infer", tmp_path, "--checkpoint", checkpoint, "--out", out]
    done = command(*words)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "2 studies; choose one with --study UID or --study newest: patient 'P1'" in done.stderr
    assert uid in done.stderr and "'2019-01-01' with 16 slices" in done.stderr
    for wanted in ("newest", uid):
        done = command(*words, "--study", wanted)
        assert done.returncode == 0, done.stderr
        report = json.loads((out / "report.json").read_text())
        assert report["input"]["study_uid"] == uid and report["settings"]["series_named"]
        assert "left out 16 slices of other studies" in report["input"]["notes"]
        assert "2021" not in json.dumps(report["input"])


def test_the_output_is_never_read(run, painted_set, tmp_path):
    folder = sorted((painted_set[1].parent / "CT_scans").iterdir())[0]
    (tmp_path / "link").symlink_to(folder)
    for out in (folder, folder / "report", tmp_path / "link" / "report"):
        done = run(folder, out)
        assert done.returncode == 1 and "which is read: the next run would take it" in done.stderr
    assert not (folder / "report").exists()


def test_what_is_not_there_is_named_first(command, checkpoint, tmp_path):
    none, out = tmp_path / "none", tmp_path / "out"
    for study, result in ((none, out), (none, none / "report")):
        done = command("infer", study, "--checkpoint", checkpoint, "--out", result)
        assert done.stderr == f"error: {none}: no such file or folder; check the path\n"
        assert not result.exists()


def test_marks_come_from_a_file_or_from_a_model(run, tmp_path):
    words = ("--marks", tmp_path / "m.csv", "--volume-checkpoint", tmp_path / "v.pth")
    done = run(tmp_path, tmp_path / "out", *words)
    assert done.returncode == 1
    assert done.stderr.startswith("error: give either --marks or --volume-checkpoint")


def test_masks_of_structures_are_read_and_wrong_ones_refused(run, painted_set, tmp_path):
    folder = sorted((painted_set[1].parent / "CT_scans").iterdir())[0]
    masks = tmp_path / "masks"
    masks.mkdir()
    refused = run(folder, tmp_path / "out", "--structures", masks)
    assert refused.returncode == 1 and "none of heart_ventricle_right.nii.gz" in refused.stderr
    with open_study(folder) as study:
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ study.affine_lps()
        empty = np.zeros(study.shape[::-1], np.uint8)
    nibabel.save(nibabel.Nifti1Image(empty, affine), masks / "heart_ventricle_left.nii.gz")
    done = run(folder, tmp_path / "out", "--structures", masks)
    assert done.returncode == 0, done.stderr
    assert "RV/LV: not measured: no mask of the right ventricle is given" in done.stdout
    assert "arteries: not estimated: no mask of the arteries is given" in done.stdout
