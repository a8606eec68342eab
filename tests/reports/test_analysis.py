"""One study from its files to its report, in every form that it may come in."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import write_hu
from jsonschema import Draft202012Validator
from studies import write_checkpoint
from whole_lungs import lung_mask

import pe_unified.reports
from pe_unified.ct.opening import open_study
from pe_unified.errors import CheckpointError, DataError
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.thresholds import Thresholds
from pe_unified.reports.analysis import AnalysisOptions, analyse_study
from pe_unified.reports.files import output_folder
from pe_unified.reports.fingerprint import fingerprint
from pe_unified.reports.report import pseudonym

pytestmark = pytest.mark.usefixtures("without_dicom")

SCHEMA = json.loads(Path(pe_unified.reports.__file__).with_name("report.schema.json").read_text())


def test_the_report_is_as_its_schema_says(report):
    out, returned = report
    Draft202012Validator.check_schema(SCHEMA)
    stored = json.loads((out / "report.json").read_text())
    dates = Draft202012Validator.FORMAT_CHECKER
    Draft202012Validator(SCHEMA, format_checker=dates).validate(stored)
    assert stored == json.loads(json.dumps(returned))
    assert stored["lesions"] and len(stored["slices"]) == stored["input"]["slices"] == 16
    assert {path.name for path in out.iterdir()} == {
        *("report.json", "report.html", "slices.csv", "mask.nii.gz"),
        *("findings.sr.dcm", "mask.seg.dcm"),
    }


def test_the_schema_allows_nothing_unnamed():
    """Nothing is allowed that the schema does not name."""

    def objects(node):
        if isinstance(node, dict):
            if node.get("type") == "object":
                yield node
            for value in node.values():
                yield from objects(value)
        elif isinstance(node, list):
            for value in node:
                yield from objects(value)

    assert all(each["additionalProperties"] is not True for each in objects(SCHEMA))


def test_mask_slices_and_lesions_agree(report, folder):
    out, found = report
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "mask.nii.gz")))
    with (out / "slices.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(mask) == len(found["slices"])
    for row, each in zip(rows, found["slices"], strict=True):
        assert int(row["index"]) == each["index"] and row["called"] == str(int(each["called"]))
        listed = [box for box in each["boxes"] if found["lesions"][box["lesion"] - 1]["called"]]
        assert int(row["boxes"]) == len(listed)
        assert row["sop_uid"] == each["sop_uid"]
    spacing = found["input"]["spacing_mm"]
    voxel_ml = spacing["row"] * spacing["col"] * spacing["slice"] / 1000
    with open_study(folder) as study:
        hu = study.all_hu()
    called = [each for each in found["lesions"] if each["called"]]
    assert set(np.unique(mask)) - {0} <= {each["number"] for each in called}
    compared = [each for each in called if each["volume_ml"] is not None]
    assert compared and len(called) < len(found["lesions"])
    for lesion in compared:
        where = mask == lesion["number"]
        assert where.sum() * voxel_ml == pytest.approx(lesion["volume_ml"], abs=2e-4)
        assert hu[where].mean() == pytest.approx(lesion["mean_hu"], abs=0.06)
        levels = np.flatnonzero(where.any(axis=(1, 2)))
        assert lesion["first_slice"] <= levels[0] and levels[-1] <= lesion["last_slice"]


@pytest.mark.usefixtures("with_dicom")
def test_nothing_of_an_earlier_report_stays(folder, predictor, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("mask.seg.dcm", "findings.sr.dcm", "report.json"):
        (out / name).write_text("of another model")
    (out / "own notes.txt").write_text("keep")
    quiet = replace(predictor.model, thresholds=Thresholds(pixel=0.99, box=1.0, gate=1.0))
    found = analyse_study(folder, out, StudyPredictor(quiet))
    assert not found["lesions"]
    assert {path.name for path in out.iterdir()} == {
        *("report.json", "report.html", "slices.csv", "mask.nii.gz", "findings.sr.dcm"),
        "own notes.txt",
    }
    assert not [path for path in out.iterdir() if path.read_bytes() == b"of another model"]
    stages = {key: value for key, value in found["seconds"].items() if key != "total"}
    assert set(stages) == {"opening", "survey", "quality", "network", "lesions", "files"}
    assert sum(stages.values()) == pytest.approx(found["seconds"]["total"], abs=0.01)


def core(found):
    """What must not depend on the form of the input."""
    slices = [
        {key: value for key, value in each.items() if key != "sop_uid"} for each in found["slices"]
    ]
    lesions = [
        {key: value for key, value in each.items() if key != "key_sop_uid"}
        for each in found["lesions"]
    ]
    return {"slices": slices, "lesions": lesions, "exam": found["exam"], "lungs": found["lungs"]}


def assert_same(found, expected, where="report"):
    """Equal, numbers within what NIfTI's single precision loses."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{where}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-3, abs=2e-4), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("form", ["zip", "nii.gz", "nii", "nrrd", "turned.nii.gz", "compressed"])
def test_every_form_of_input_gives_the_same(report, predictor, folder, tmp_path, form):
    out, expected = report
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    path = tmp_path / f"study.{form}"
    if form == "zip":
        shutil.make_archive(str(tmp_path / "study"), "zip", folder)
    elif form == "turned.nii.gz":
        sitk.WriteImage(sitk.DICOMOrient(image, "SAR"), str(path))
    elif form == "compressed":
        path.mkdir()
        for number, file in enumerate(sorted(folder.iterdir())):
            slice_file = pydicom.dcmread(file)
            slice_file.compress(pydicom.uid.RLELossless)
            slice_file.save_as(path / f"IM{number}")
    else:
        sitk.WriteImage(image, str(path))
    found = analyse_study(path, tmp_path / "out", predictor)
    assert_same(core(found), core(expected))
    mask = sitk.ReadImage(str(tmp_path / "out" / "mask.nii.gz"))
    if form == "turned.nii.gz":
        assert mask.GetSize() == sitk.DICOMOrient(image, "SAR").GetSize()
        mask = sitk.DICOMOrient(mask, "LPS")
    reference = sitk.ReadImage(str(out / "mask.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(reference))
    assert mask.GetOrigin() == pytest.approx(reference.GetOrigin(), abs=1e-3)


@pytest.mark.parametrize("form", ["dicom", "LPI", "PSR"])
def test_lungs_where_they_are_asked_for(finds_nothing, folder, tmp_path, form):
    """Over the CT in each order of its axes: slices last, the other way, or in the middle."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    path = folder
    if form != "dicom":
        path = tmp_path / "ct.nii.gz"
        sitk.WriteImage(sitk.DICOMOrient(reader.Execute(), form), str(path))
    out = tmp_path / "out"
    analyse_study(path, out, finds_nothing, AnalysisOptions(lung_mask=True))
    lungs = sitk.ReadImage(str(out / "lungs.nii.gz"))
    if form != "dicom":
        assert lungs.GetSize() == sitk.ReadImage(str(path)).GetSize()
        lungs = sitk.DICOMOrient(lungs, "LPS")
    with open_study(folder) as study:
        expected = lung_mask(study.all_hu(), study.spacing_mm)
    assert expected.any()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(lungs) > 0, expected)
    analyse_study(path, out, finds_nothing)
    assert not (out / "lungs.nii.gz").exists()


@pytest.mark.usefixtures("with_dicom")
def test_nobody_is_named(predictor, folder, tmp_path):
    """Neither the patient in the headers nor one in a file name."""
    case = tmp_path / "DOE^JANE"
    case.mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        slice_file = pydicom.dcmread(file)
        slice_file.PatientName, slice_file.PatientID = "DOE^JANE", "MRN-4711"
        slice_file.save_as(case / f"DOE_{number}.dcm")
    (case / "DOE_broken.dcm").write_bytes(b"broken" * 50)
    other_series = slice_file.copy()
    other_series.SeriesInstanceUID, other_series.SOPInstanceUID = "1.2.840.99", "1.2.840.99.1"
    other_series.save_as(case / "other.dcm")
    analyse_study(case, tmp_path / "out", predictor)
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        # An archive files SEG and SR by the patient; nobody else is told.
        told = path.suffix == ".dcm"
        assert (b"DOE^JANE" in content, b"MRN-4711" in content) == (told, told), path.name
    uid = pydicom.dcmread(file).StudyInstanceUID
    assert uid in (tmp_path / "out" / "report.json").read_text()
    analyse_study(case, tmp_path / "hidden", predictor, AnalysisOptions(pseudonym_key="k"))
    for path in (tmp_path / "hidden").iterdir():
        assert not any(word in path.read_bytes() for word in (b"DOE", b"MRN-4711")), path.name
    hidden = (tmp_path / "hidden" / "report.json").read_text()
    assert "1.2.840.99" in (tmp_path / "out" / "report.json").read_text()
    assert uid not in hidden and "1.2.840.99" not in hidden
    slices = (tmp_path / "hidden" / "slices.csv").read_text()
    assert slice_file.SOPInstanceUID not in hidden and slice_file.SOPInstanceUID not in slices
    stored = json.loads(hidden)
    assert stored["input"]["study_uid"] == pseudonym(uid, "k") != pseudonym(uid, "l")
    Draft202012Validator(SCHEMA).validate(stored)


@pytest.mark.parametrize(
    ("count", "size", "reason"),
    [(1, 64, "1 slices"), (7, 64, "7 slices"), (3001, 8, "3001 slices"), (10, 24, "24 x 24")],
)
def test_what_is_no_study_is_refused_and_leaves_nothing(predictor, tmp_path, count, size, reason):
    volume = np.full((size, size, count), -500, np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([1, 1, 2, 1.0])), tmp_path / "ct.nii")
    with pytest.raises(DataError, match=reason):
        analyse_study(tmp_path / "ct.nii", tmp_path / "out", predictor)
    assert not list((tmp_path / "out").iterdir())


def test_a_slice_broken_in_the_middle_leaves_nothing(predictor, folder, tmp_path):
    case = tmp_path / "case"
    shutil.copytree(folder, case)
    victim = sorted(case.iterdir())[9]
    victim.write_bytes(victim.read_bytes()[:-3000])
    with pytest.raises(DataError, match=victim.name):
        analyse_study(case, tmp_path / "out", predictor)
    assert not list((tmp_path / "out").iterdir())


def test_an_older_report_stays_whole_until_the_new_one_is(predictor, folder, tmp_path):
    out = tmp_path / "out"
    analyse_study(folder, out, predictor)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(DataError), output_folder(out) as partial:
        (partial / "report.json").write_text("half")
        raise DataError("study", "went wrong", "try again")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_output_that_cannot_be_written_is_told_before_the_work(predictor, folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    started = []
    with pytest.raises(DataError, match="cannot be written"):
        analyse_study(folder, tmp_path / "file" / "out", predictor, opened=started.append)
    assert not started


def test_marks_need_a_model_with_lesions(folder, tmp_path):
    write_checkpoint(tmp_path / "cls.pth", ("cls",))
    model = load_model(tmp_path / "cls.pth", device="cpu", precision="fp32")
    marks = tmp_path / "marks.csv"
    marks.write_text("id,x,y,z,prob\nct,0,0,4,0.9\n")
    with pytest.raises(CheckpointError, match="this model does neither"):
        analyse_study(folder, tmp_path / "out", StudyPredictor(model), AnalysisOptions(marks=marks))
    assert not (tmp_path / "out").exists()


def test_a_study_without_lungs_abstains_and_is_scored_all_the_same(finds_nothing, tmp_path):
    rng = np.random.default_rng(0)
    for k in range(12):
        hu = rng.normal(40, 10, (64, 64)).astype(np.int16)
        write_hu(tmp_path / "ct" / f"{k}", hu, z=3.0 * k)
    found = analyse_study(tmp_path / "ct", tmp_path / "out", finds_nothing)
    assert found["quality"]["abstain"]
    assert [flag["name"] for flag in found["quality"]["flags"]] == ["no_lungs"]
    assert all(each["probability"] is not None for each in found["slices"])
    assert found["exam"]["probability"] is not None


def test_files_that_come_later_are_another_study(finds_nothing, folder, tmp_path):
    """As an archive that still sends while the network runs."""
    case = tmp_path / "case"
    shutil.copytree(folder, case)
    before = fingerprint(case)

    def send_another(_):
        shutil.copy(min(case.iterdir()), case / "late.dcm")

    report = analyse_study(case, tmp_path / "out", finds_nothing, opened=send_another)
    assert report["input"]["fingerprint"] == before != fingerprint(case)
