"""SEG and SR as other software reads them: dcmqi, SimpleITK, dciodvfy."""

import copy
import csv
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import all_items, enhanced_dataset, texts_of
from studies import write_checkpoint

from pe_unified.ct.opening import open_study
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.reports.analysis import AnalysisOptions, analyse_study
from pe_unified.reports.dicom_objects import write_dicom
from pe_unified.reports.report import pseudonym

SLOW = pytest.mark.slow
DCMQI = Path(sys.executable).with_name("segimage2itkimage")


def source_image(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.skipif(not DCMQI.exists(), reason="no dcmqi for this platform")
def test_dcmqi_reads_every_segment_over_its_source(folder, report, tmp_path):
    out, written = report
    command = [DCMQI, "--inputDICOM", out / "mask.seg.dcm", "--outputDirectory", tmp_path]
    subprocess.run([*command, "--outputType", "nii"], check=True, capture_output=True)
    ct = source_image(folder)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "mask.nii.gz")))
    called = [lesion for lesion in written["lesions"] if lesion["called"]]
    masked = [lesion for lesion in called if lesion["volume_ml"] is not None]
    assert masked
    for segment, lesion in enumerate(masked, start=1):
        found = sitk.ReadImage(str(tmp_path / f"{segment}.nii.gz"))
        voxels = np.argwhere(sitk.GetArrayFromImage(found) > 0)[:, ::-1]
        places = [found.TransformIndexToPhysicalPoint(tuple(map(int, v))) for v in voxels]
        here = {tuple(ct.TransformPhysicalPointToIndex(place))[::-1] for place in places}
        expected = {tuple(map(int, v)) for v in np.argwhere(mask == lesion["number"])}
        assert here == expected, lesion["number"]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="no dciodvfy (dicom3tools)")
@pytest.mark.parametrize("name", ["mask.seg.dcm", "findings.sr.dcm"])
def test_dciodvfy_finds_no_error(report, name):
    done = subprocess.run(["dciodvfy", report[0] / name], capture_output=True, text=True)
    assert "Error" not in done.stderr + done.stdout


def test_they_refer_to_the_source_and_agree_with_the_report(folder, report):
    out, written = report
    with open_study(folder) as study:
        uids = set(study.sop_uids)
    segmentation = hd.seg.segread(out / "mask.seg.dcm")
    assert segmentation.StudyInstanceUID == written["input"]["study_uid"]
    referenced = {
        str(item.ReferencedSOPInstanceUID)
        for series in segmentation.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    assert referenced and referenced <= uids
    structured = hd.sr.srread(out / "findings.sr.dcm")
    assert structured.StudyInstanceUID == written["input"]["study_uid"]
    content = structured.content
    rois = [
        *content.get_volumetric_roi_measurement_groups(),
        *content.get_planar_roi_measurement_groups(),
    ]
    lesions = [lesion for lesion in written["lesions"] if lesion["called"]]
    assert len(rois) == len(lesions)
    by_name = {roi.tracking_identifier: roi for roi in rois}
    segments = {item.TrackingID: item.TrackingUID for item in segmentation.SegmentSequence}
    for lesion in lesions:
        name = f"lesion {lesion['number']}"
        values = {each.name.meaning: each.value for each in by_name[name].get_measurements()}
        assert values["Score of the finding, not calibrated"] == pytest.approx(lesion["score"])
        if lesion["volume_ml"] is not None:
            assert values["Volume"] == pytest.approx(lesion["volume_ml"])
            assert values["Mean Attenuation Coefficient"] == pytest.approx(lesion["mean_hu"])
            assert by_name[name].tracking_uid == segments[name]
    reasons = {flag["reason"] for flag in written["quality"]["flags"] if flag["abstain"]}
    assert reasons and reasons <= set(texts_of(structured))
    exam = written["exam"]["probability"]
    assert f"{exam}" in str(structured)


@pytest.fixture
def wordy(folder, report, tmp_path):
    """An SR of long sentences, and the report that it is of."""
    found = copy.deepcopy(report[1])
    found["exam"]["stretches"] = [
        {"first_slice": first, "last_slice": last}
        for first, last in ((52, 61), (98, 107), (131, 140), (160, 169), (201, 201))
    ]
    found["lesions"] = [{"called": True}] * 3
    reason = "the files do not say how the patient lies: order, sides and places are guesses"
    found["quality"]["flags"] = [
        {"name": name, "abstain": True, "reason": reason}
        for name in ("unknown_position", "poor_opacification")
    ]
    found["model"]["training_notice"] = f"trained on {'many ' * 20}sets"
    with open_study(folder) as study:
        write_dicom(tmp_path, found, study, [])
    return tmp_path / "findings.sr.dcm", found


def test_no_sentence_is_cut(wordy):
    path, found = wordy
    structured = pydicom.dcmread(path)
    said = texts_of(structured)
    slices = "slices 52 to 61, 98 to 107, 131 to 140, 160 to 169, 201"
    reasons = [flag["reason"] for flag in found["quality"]["flags"]]
    whole = [f"called positive: 3 lesions and {slices}", *reasons]
    assert said[-4:] == [*whole, found["model"]["training_notice"]]
    (group,) = hd.sr.srread(path).content.get_image_measurement_groups()
    coded = [each.value.meaning for each in group.get_qualitative_evaluations()]
    assert coded == ["positive", "unknown position", "poor opacification"]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="no dciodvfy (dicom3tools)")
def test_dciodvfy_finds_no_error_in_long_sentences(wordy):
    done = subprocess.run(["dciodvfy", wordy[0]], capture_output=True, text=True)
    assert "Error" not in done.stderr + done.stdout


PERSON = {
    "PatientName": "MÜLLER^Jürgen",
    "PatientID": "MRN-4711",
    "IssuerOfPatientID": "Clinic",
    "PatientBirthDate": "19500203",
    "PatientSex": "M",
    "StudyDate": "19991231",
    "StudyTime": "235959.5",
    "AccessionNumber": "ACC-9",
    "StudyID": "77",
    "ReferringPhysicianName": "HOUSE^Grégory",
}


def of_a_person(slice_file, number):
    slice_file.SpecificCharacterSet = "ISO_IR 100"
    for keyword, value in PERSON.items():
        setattr(slice_file, keyword, value)
    slice_file.PatientComments = "do not tell"


def test_an_archive_files_them_with_the_patient(folder, predictor, tmp_path):
    case = changed(folder, tmp_path / "case", of_a_person)
    report = analyse_study(case, tmp_path / "out", predictor)
    for name in ("mask.seg.dcm", "findings.sr.dcm"):
        found = pydicom.dcmread(tmp_path / "out" / name)
        assert {keyword: str(found[keyword].value) for keyword in PERSON} == PERSON
        assert found.StudyInstanceUID == report["input"]["study_uid"]
        assert "PatientComments" not in found


def test_pseudonyms_leave_no_patient_and_no_date_of_the_study(folder, predictor, tmp_path):
    case = changed(folder, tmp_path / "case", of_a_person)
    slice_file = pydicom.dcmread(min(case.iterdir()))
    sources = {str(slice_file.StudyInstanceUID), str(slice_file.SeriesInstanceUID)}
    names = {}
    for key in ("k", "l"):
        analyse_study(case, tmp_path / key, predictor, AnalysisOptions(pseudonym_key=key))
        for name in ("mask.seg.dcm", "findings.sr.dcm"):
            content = (tmp_path / key / name).read_bytes()
            for word in ("LLER^", "MRN-4711", "HOUSE", "ACC-9", "Clinic", "19991231", *sources):
                assert word.encode() not in content, (name, word)
            found = pydicom.dcmread(tmp_path / key / name)
            assert found.PatientName == f"{found.PatientID}^"
            assert found.PatientIdentityRemoved == "YES"
            names.setdefault(key, set()).add(found.PatientID)
    # One patient for one secret, another for another.
    assert [len(each) for each in names.values()] == [1, 1] and names["k"] != names["l"]


def odd_person(slice_file, number):
    slice_file.PatientName = "JANE DOE"
    slice_file.PatientSex = "MALE"
    slice_file.PatientBirthDate = "1950"
    slice_file.StudyTime = "noon"
    slice_file.PatientWeight, slice_file.PatientSize = "70.5", "1.75"
    slice_file.SpecificCharacterSet = ["ISO_IR 100", "ISO 2022 IR 87"]


def test_odd_patients_cost_no_report_and_no_warning_quotes_them(
    folder, predictor, tmp_path, recwarn, capfd
):
    case = changed(folder, tmp_path / "case", odd_person)
    for path in case.iterdir():
        content = path.read_bytes().replace(b"70.5", b"70,5").replace(b"1.75", b"1\\75")
        path.write_bytes(content)
    recwarn.clear()
    found = analyse_study(case, tmp_path / "out", predictor)
    output, errors = capfd.readouterr()
    told = output + errors + " ".join(str(each.message) for each in recwarn)
    assert "JANE DOE" not in told and "1950" not in told
    assert not [note for note in found["input"]["notes"] if "no SEG" in note]
    written = pydicom.dcmread(tmp_path / "out" / "findings.sr.dcm")
    source = pydicom.dcmread(min(case.iterdir()))
    assert written.PatientID == source.PatientID and written.PatientSex == ""


def changed(folder, target, change):
    """A copy of a study with other headers."""
    target.mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        slice_file = pydicom.dcmread(file)
        change(slice_file, number)
        slice_file.save_as(target / f"{number}.dcm")
    return target


def narrow(slice_file, number):
    """Fewer columns than rows, and narrower ones."""
    pixels = slice_file.pixel_array[:, 8:-4]
    slice_file.Columns = pixels.shape[1]
    slice_file.PixelData = pixels.tobytes()
    slice_file.PixelSpacing = [2.0, 1.75]


def test_rows_and_columns_are_those_of_the_source(folder, predictor, tmp_path):
    case = changed(folder, tmp_path / "case", narrow)
    analyse_study(case, tmp_path / "out", predictor)
    segmentation = hd.seg.segread(tmp_path / "out" / "mask.seg.dcm")
    source = pydicom.dcmread(case / "0.dcm")
    assert (segmentation.Rows, segmentation.Columns) == source.pixel_array.shape
    (shared,) = segmentation.SharedFunctionalGroupsSequence
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [2.0, 1.75]


def frames_differ(slice_file, number):
    """The first one says nothing."""
    slice_file.FrameOfReferenceUID = f"1.2.{number}" if number else ""


def orientations_differ(slice_file, number):
    slice_file.ImageOrientationPatient = [1, 0.004 * (number % 2), 0, 0, 1, 0]


@pytest.mark.parametrize("change", [frames_differ, pytest.param(orientations_differ, marks=SLOW)])
def test_odd_headers_cost_no_report(folder, predictor, tmp_path, change):
    case = changed(folder, tmp_path / "case", change)
    found = analyse_study(case, tmp_path / "out", predictor)
    assert found["lesions"] and not [n for n in found["input"]["notes"] if "no SEG" in n]
    segmentation = hd.seg.segread(tmp_path / "out" / "mask.seg.dcm")
    structured = hd.sr.srread(tmp_path / "out" / "findings.sr.dcm")
    assert segmentation.StudyInstanceUID == structured.StudyInstanceUID
    assert found["input"]["study_uid"] == segmentation.StudyInstanceUID


def tilted(slice_file, number):
    slice_file.ImageOrientationPatient = [1, 0, 0, 0, 0.96593, -0.25882]


def shifted(slice_file, number):
    """The table went on sideways, and in other steps, halfway."""
    x, y, z = slice_file.ImagePositionPatient
    if number > 7:
        slice_file.ImagePositionPatient = [x + 3, y, z + 0.3 * number]


@pytest.mark.parametrize("change", [tilted, shifted])
def test_frames_lie_where_their_slices_lie(folder, predictor, tmp_path, change):
    case = changed(folder, tmp_path / "case", change)
    for path in sorted(case.iterdir())[3:5]:
        path.unlink()
    analyse_study(case, tmp_path / "out", predictor)
    sources = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, case.iterdir())}
    segmentation = pydicom.dcmread(tmp_path / "out" / "mask.seg.dcm")
    (shared,) = segmentation.SharedFunctionalGroupsSequence
    frames = segmentation.PerFrameFunctionalGroupsSequence
    assert len(frames) > 1
    for frame in frames:
        (derived,) = frame.DerivationImageSequence
        source = sources[derived.SourceImageSequence[0].ReferencedSOPInstanceUID]
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert [*place] == pytest.approx([*source.ImagePositionPatient], abs=1e-3)
        turn = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        assert [*turn] == pytest.approx([*source.ImageOrientationPatient], abs=1e-4)


def test_no_place_is_made_up(folder, predictor, tmp_path):
    """Slices that say at which height they lie, but not how."""

    def unplaced(slice_file, number):
        slice_file.SliceLocation = slice_file.ImagePositionPatient[2]
        del slice_file.ImagePositionPatient

    case = changed(folder, tmp_path / "case", unplaced)
    found = analyse_study(case, tmp_path / "out", predictor)
    assert found["lesions"] and "no SEG and no SR" in found["input"]["notes"][-1]
    assert "unknown_position" in {flag["name"] for flag in found["quality"]["flags"]}
    assert found["quality"]["abstain"]
    assert not list((tmp_path / "out").glob("*.dcm"))


@pytest.mark.parametrize("uid", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_without_anything_to_refer_to_the_rest_is_written(folder, predictor, tmp_path, uid):
    """A study that was made up would be filed nowhere, or with another patient."""
    case = changed(folder, tmp_path / "case", lambda file, number: setattr(file, uid, ""))
    found = analyse_study(case, tmp_path / "out", predictor)
    (note,) = (note for note in found["input"]["notes"] if note.startswith("no SEG and no SR"))
    assert note == f"no SEG and no SR: the slices have no {uid} to refer to"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.json", "report.html", "slices.csv", "mask.nii.gz"}
    assert "no SEG and no SR" in (tmp_path / "out" / "report.json").read_text()


def test_reasons_not_to_rely_on_it_stand_also_without_an_exam_score(folder, tmp_path):
    path = write_checkpoint(tmp_path / "m.pth", ("seg",))
    predictor = StudyPredictor(load_model(path, device="cpu", precision="fp32"))
    found = analyse_study(folder, tmp_path / "out", predictor)
    reasons = [flag["reason"] for flag in found["quality"]["flags"] if flag["abstain"]]
    assert found["exam"]["probability"] is None and reasons
    assert set(reasons) <= set(texts_of(hd.sr.srread(tmp_path / "out" / "findings.sr.dcm")))


def test_a_study_without_lesions_has_a_report_and_no_segmentation(folder, predictor, tmp_path):
    model = load_model(write_checkpoint(tmp_path / "m.pth", ("cls",)), precision="fp32")
    found = analyse_study(folder, tmp_path / "out", StudyPredictor(model))
    assert found["lesions"] == []
    assert not (tmp_path / "out" / "mask.seg.dcm").exists()
    content = hd.sr.srread(tmp_path / "out" / "findings.sr.dcm").content
    assert content.get_volumetric_roi_measurement_groups() == []


def as_enhanced(folder, path):
    """The study of a folder as one Enhanced CT file, from the head down."""
    files = map(pydicom.dcmread, folder.iterdir())
    files = sorted(files, key=lambda ds: -ds.ImagePositionPatient[2])
    first = files[0]
    keywords = ("PixelSpacing", "SliceThickness", "RescaleSlope", "RescaleIntercept")
    uids = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    enhanced_dataset(
        np.stack([ds.pixel_array for ds in files]),
        [{"ImagePositionPatient": ds.ImagePositionPatient} for ds in files],
        shared={word: first[word].value for word in keywords if word in first},
        **{word: first[word].value for word in uids if word in first},
    ).save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("key", [pytest.param(None, marks=SLOW), "a secret of some length"])
def test_frames_of_one_file_are_referred_to_by_number(folder, predictor, report, tmp_path, key):
    path = as_enhanced(folder, tmp_path / "enhanced.dcm")
    options = AnalysisOptions(pseudonym_key=key)
    found = analyse_study(path, tmp_path / "out", predictor, options)
    volumes = [each["volume_ml"] for each in found["lesions"]]
    assert volumes == [each["volume_ml"] for each in report[1]["lesions"]]
    source = pydicom.dcmread(path)
    uid = pseudonym(str(source.SOPInstanceUID), key) if key else source.SOPInstanceUID
    heights = [
        float(each.PlanePositionSequence[0].ImagePositionPatient[2])
        for each in source.PerFrameFunctionalGroupsSequence
    ]
    for each in found["slices"]:
        assert heights[each["frame"] - 1] == pytest.approx(each["z_mm"], abs=1e-3)
    with (tmp_path / "out" / "slices.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == [str(each["frame"]) for each in found["slices"]]
    assert {each["frame"] for each in report[1]["slices"]} == {None}
    segmentation = pydicom.dcmread(tmp_path / "out" / "mask.seg.dcm")
    (series,) = segmentation.ReferencedSeriesSequence
    (listed,) = series.ReferencedInstanceSequence
    assert listed.ReferencedSOPInstanceUID == uid and "ReferencedFrameNumber" not in listed
    numbers = set()
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert image.ReferencedSOPInstanceUID == uid
        assert image.ReferencedSOPClassUID == source.SOPClassUID
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert heights[image.ReferencedFrameNumber - 1] == pytest.approx(float(place[2]), abs=1e-3)
        numbers.add(int(image.ReferencedFrameNumber))
    assert len(numbers) > 1
    structured = pydicom.dcmread(tmp_path / "out" / "findings.sr.dcm")
    (evidence,) = structured.CurrentRequestedProcedureEvidenceSequence
    instances = [
        item.ReferencedSOPInstanceUID
        for series in evidence.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
    assert sorted(instances) == sorted([uid, segmentation.SOPInstanceUID])
    images = [
        item
        for item in all_items(structured.ContentSequence)
        if item.get("ReferencedSOPInstanceUID") == uid
    ]
    assert images and all(1 <= item.ReferencedFrameNumber <= len(heights) for item in images)
    assert hd.sr.srread(tmp_path / "out" / "findings.sr.dcm").content
