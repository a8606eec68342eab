"""A hospital's folder into one set: what belongs together is found, what is wrong is named."""

import json
import pickle
import shutil
from functools import partial

import nibabel
import numpy as np
import pytest
from dicom_files import write_enhanced
from own_folder import (
    EMPTY,
    MASKED,
    NAMES,
    by_study,
    save_metaimage,
    save_nifti,
    save_rtstruct,
    save_seg,
    uid_of,
    write_study,
    zipped,
)
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage
from raw_sets import all_images, tree

from pe_unified.cli import main
from pe_unified.converters.contract.known_splits import read_splits
from pe_unified.converters.contract.schema import union_mask
from pe_unified.converters.merge import merge
from pe_unified.converters.own.tree import bare_name, look_through
from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults
from pe_unified.converters.raw.folder import OwnFolder
from pe_unified.converters.verify import verify
from pe_unified.ct.hu import read_slice_png
from pe_unified.ct.opening import open_slices, open_study
from pe_unified.errors import DataError

OPTIONS = RunOptions(quiet=True, split=(0.5, 0.25, 0.25))


@pytest.fixture(scope="module")
def converted(hospital, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "out"
    return out, convert(OwnFolder(hospital[0]), out, OPTIONS)


def masks_in(images):
    shape = images[0]["height"], images[0]["width"]
    found = [union_mask(image["annotations"]) for image in images]
    return np.stack([np.zeros(shape, np.uint8) if each is None else each for each in found])


def test_every_kind_of_scan_and_mask(hospital, converted):
    _, masks, hu = hospital
    out, report = converted
    assert report_faults(report) == [] and verify(out) == []
    studies = by_study(out)
    assert set(studies) == set(masks)
    for name, images in studies.items():
        assert np.array_equal(masks_in(images), masks[name] > 0), name
        # One structure, whatever its number, does not tell emboli apart.
        assert not any("instance_id" in each for i in images for each in i["annotations"]), name
        pixels = np.stack([read_slice_png(out / image["file_name"]) for image in images])
        assert np.array_equal(pixels, hu[name]), name
    assert {i["pe_present"] for i in studies["B1"]} == {0}
    assert {i["pe_present"] for i in studies["B2"]} == {None}
    assert all(not image["labels_known"] for image in studies["B2"])
    exams = [
        exam
        for path in (out / "annotations").glob("t*.json")
        for exam in json.loads(path.read_text())["exams"]
    ]
    for exam in exams:
        assert (exam["negative_exam_for_pe"] is None) == (exam["study_uid"] == uid_of("B2"))


def test_patients_are_those_of_the_table_and_in_one_split(converted):
    out, _ = converted
    splits = {}
    for image in all_images(out):
        splits.setdefault(image["patient_id"], set()).add(image["split"])
    assert set(splits) == {f"Müller {number}" for number in range(4)}
    assert all(len(each) == 1 for each in splits.values())


def test_plans_travel_to_workers(hospital, tmp_path):
    """Slices of DICOM, an archive and volumes are read where the plan arrives."""
    converter = OwnFolder(hospital[0])
    for number, source in enumerate(converter.patients()):
        plan = converter.reader.plan(source, tmp_path / str(number))
        reader, again = pickle.loads(pickle.dumps((converter.reader, plan)))
        for (_, here), (_, there) in zip(plan.slices(), again.slices(), strict=True):
            hu = converter.reader.read_slice(here.source)
            assert np.array_equal(reader.read_slice(there.source), hu)


def test_without_a_table_all_is_found_by_names(changed):
    raw, _, run = changed
    (raw / "studies.csv").unlink()
    (raw / "Masken" / "A1.nii.gz").rename(raw / "Export 0" / "A1" / "whatever_mask.nii.gz")
    (raw / "Masken" / "A4_seg").rename(raw / "Masken" / "IM0001")
    report = run()
    assert report_faults(report) == []
    entries = {each["patient_id"]: each for each in report["patients"]}
    assert set(entries) == {*(f"P-{name}" for name in NAMES if name != "A3"), "A3"}
    for name in MASKED:
        entry = entries["A3" if name == "A3" else f"P-{name}"]
        assert entry["positive_slices"] == 3, name


def test_a_mirrored_mask_is_refused_with_a_picture_and_the_others_go_on(changed):
    raw, rewrite, run = changed
    path = raw / "Masken" / "A1.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine), path)
    report = run()
    (fault,) = report_faults(report)
    assert fault.startswith("Müller 0: left out: ")
    for said in ("A1.nii.gz", "study A1", "would fit if placed 'left-right'", "column placed"):
        assert said in fault
    assert (raw.parent / "out" / "check" / "A1.png").stat().st_size > 1000
    assert report["totals"]["converted"] == 4 and "A2" in by_study(raw.parent / "out")
    rewrite("A1.nii.gz;1,5", "A1.nii.gz;left-right")
    rewrite(";1,5", ";")
    rewrite("Dosis", "placed")
    assert report_faults(run()) == []
    assert not (raw.parent / "out" / "check" / "A1.png").exists()
    rewrite(";left-right", ";unchecked")
    assert report_faults(run()) == [] and verify(raw.parent / "out") == []


def test_studies_that_are_wrong_are_named_and_the_others_go_on(changed):
    raw, rewrite, run = changed
    wrong = [
        ("ja;Masken/A1", "nein;Masken/A1", "A1.nii.gz: study A1: a negative exam with an embolus"),
        ("Masken/A3.mha", "Masken/A9.mha", "A9.mha: study A3: no such file, though line 4"),
        ("Masken/A4_seg", "Masken/A5_rs", "and 1 more studies of this patient, see --check"),
        ("Export 1\\B1\\CT\\Thorax", "Export 1", "study B1: 2 studies lie in this folder"),
    ]
    for old, new, _ in wrong:
        rewrite(old, new)
    faults = report_faults(run())
    for _, _, said in wrong:
        assert any(said in fault and "; " in fault for fault in faults), said
    assert set(by_study(raw.parent / "out")) == {"A2", "A5", "B2"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\nB2;", "\nB1;", "lines 7 and 8 are both study 'B1'"),
        (";nein;", ";jein;", "line 7, study B1: pe is 'jein'; write 1"),
        ("Study;Patient;Path", "Studie;Patient;Pfad", "has neither a column study nor path"),
        ("Dosis", "StudyInstanceUID", "columns study and studyinstanceuid mean the same"),
    ],
)
def test_a_table_that_is_wrong_is_refused(changed, old, new, said):
    _, rewrite, run = changed
    rewrite(old, new)
    with pytest.raises(DataError, match=r"studies\.csv") as error:
        run()
    assert said in str(error.value)


def test_a_study_outside_the_table_is_told(changed):
    raw, _, run = changed
    write_study(raw / "late" / "C1", "C1")
    (fault,) = report_faults(run())
    assert fault.startswith("late/C1: not in the table of studies and left out")


def test_one_patientid_under_two_names_is_one_group(changed):
    raw, _, run = changed
    for number, name in ((0, "A1"), (1, "B1")):
        folder = raw / f"Export {number}" / name / "CT" / "Thorax"
        mask = None if name == "A1" else EMPTY
        write_study(folder, name, mask=mask, PatientID="4711")
    report = run()
    assert "Müller 0, Müller 2 have one PatientID" in report["problems"][0]
    images = [i for i in all_images(raw.parent / "out") if i.get("group") == "Müller 0"]
    assert {image["patient_id"] for image in images} == {"Müller 0", "Müller 2"}
    assert len({image["split"] for image in images}) == 1


def test_a_slice_of_an_archive_that_is_damaged_is_named_there(changed):
    raw, _, run = changed
    inner = raw / "inner"
    shutil.unpack_archive(raw / "zip" / "A2.zip", inner)
    path = inner / "IM004"
    path.write_bytes(path.read_bytes()[:-400])
    zipped(inner, raw / "zip" / "A2.zip")
    shutil.rmtree(inner)
    (raw / "Masken" / "A2.seg.nrrd").unlink()
    (raw / "studies.csv").unlink()
    (fault,) = report_faults(run())
    assert fault.startswith("P-A2: zip/A2.zip: slice 4: the pixels cannot be decoded")


def test_a_changed_label_is_converted_anew(changed):
    raw, rewrite, run = changed
    run()
    rewrite(";nein;", ";ja;")
    run()
    assert {image["pe_present"] for image in by_study(raw.parent / "out")["B1"]} == {None}


def test_check_writes_nothing_and_tells_all(changed, called):
    raw, rewrite, _ = changed
    unified = partial(called, main, "pe-unified", "convert", "folder", raw, "--workers", 1)
    done = unified("--check", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "7 studies of 4 patients; 5 with masks, 1 of unknown embolism" in done.stdout
    assert "column dosis is not used" in done.stdout and "Nothing is wrong" in done.stdout
    assert "B2 (patient Müller 3): no label is known" in done.stdout
    rewrite("Masken/A1.nii.gz", "Masken/A3.mha")
    rewrite("zip/A2.zip", "zip/A9.zip")
    rewrite("Masken/A4_seg", "Masken/A5_rs")
    before = tree(raw.parent)
    done = unified("--check", "--quiet")
    assert done.returncode == 1 and "Wrong: 3 studies" in done.stdout
    for said in (
        "A3.mha: study A1: the mask does not fit",
        "A9.zip: study A2: no such file or folder; correct the path in line 3",
        "A5_rs: study A4: the mask does not fit",
    ):
        assert said in done.stdout
    assert tree(raw.parent) == before
    done = unified()
    assert done.returncode == 2 and "give OUT" in done.stderr


def test_a_folder_without_a_study_is_told_why(tmp_path, called):
    (tmp_path / "raw").mkdir()
    check = ("pe-unified", "convert", "folder", tmp_path / "raw", "--check", "--workers", 1)
    done = called(main, *check)
    assert done.returncode == 1 and "No study was found, see --help" in done.stdout
    write_study(tmp_path / "raw", "A1")
    for path in (tmp_path / "raw").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"no patients found \(.*IM001: the header ends before"):
        convert(OwnFolder(tmp_path / "raw"), tmp_path / "out", OPTIONS)


def test_a_mask_named_as_a_scan_is_told(tmp_path):
    folder = tmp_path / "ct"
    study, mask = write_study(folder, "A1")
    save_metaimage(tmp_path / "raw" / "A1b.nrrd", mask.astype(np.int16), study)
    report = convert(OwnFolder(tmp_path / "raw"), tmp_path / "out", OPTIONS)
    assert "so it is not a CT; if it is a mask" in report_faults(report)[0]


def test_a_study_of_files_is_opened_as_its_folder_is(hospital):
    raw = hospital[0]
    folder = raw / "Export 0" / "A1" / "CT" / "Thorax"
    with open_study(folder) as one:
        other = open_slices(sorted(folder.iterdir()), folder)
        assert np.array_equal(one.all_hu(), other.all_hu()) and one.z_mm == other.z_mm


def test_one_folder_of_several_studies_and_a_file_of_many_frames(tmp_path):
    """As some archives export: everything flat, without endings; or one Enhanced CT."""
    raw = tmp_path / "raw"
    masks = {}
    for name in ("A1", "A2"):
        study, masks[name] = write_study(tmp_path / name, name)
        save_seg(tmp_path / name / "seg", {"PE": masks[name]}, study.files)
        raw.mkdir(exist_ok=True)
        for path in (tmp_path / name).iterdir():
            path.rename(raw / f"{name}{path.name}")
    study, masks["E1"] = write_study(tmp_path / "E1", "E1")
    frames = [{"ImagePositionPatient": [-100, -100, 2.5 * index]} for index in range(len(study))]
    shared = {"PixelSpacing": [0.8, 0.7], "SliceThickness": 2.5}
    uids = {"StudyInstanceUID": uid_of("E1"), "PatientID": "E1"}
    write_enhanced(raw / "multi" / "ct", study.all_hu(), frames, shared=shared, **uids)
    save_rtstruct(raw / "multi" / "rs", {"PE": masks["E1"]}, study)
    report = convert(OwnFolder(raw), tmp_path / "out", OPTIONS)
    assert report_faults(report) == [] and verify(tmp_path / "out") == []
    found = by_study(tmp_path / "out")
    for name, mask in masks.items():
        assert np.array_equal(masks_in(found[name]), mask), name
    assert {image["sop_uid"] for image in found["E1"]} == {None}


@pytest.mark.parametrize(
    ("name", "study"),
    [("0007RefStd.nrrd", "0007"), ("case7_mask.nii.gz", "case7"), ("7 clots.nrrd", "7")],
)
def test_words_for_masks_may_follow_a_number(tmp_path, name, study):
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "0007maskulin.nrrd").write_bytes(b"")
    found = look_through(tmp_path)
    assert [mask.path.name for mask in found.masks] == [name]
    assert [each.path.name for each in found.studies] == ["0007maskulin.nrrd"]
    assert bare_name(name) == study


def test_a_directory_of_media_does_not_hide_whose_an_archive_is(tmp_path):
    write_study(tmp_path / "disc" / "images", "A1")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory = Dataset()
    directory.file_meta, directory.FileSetID = meta, "DISC"
    directory.save_as(tmp_path / "disc" / "DICOMDIR", enforce_file_format=True)
    zipped(tmp_path / "disc", tmp_path / "raw" / "disc.zip")
    (tmp_path / "disc" / "DICOMDIR").rename(tmp_path / "raw" / "contents")
    found = look_through(tmp_path / "raw")
    (study,) = found.studies
    assert not found.broken
    assert (study.uid, study.patient_id) == (uid_of("A1"), "P-A1")


def test_a_study_and_its_zip_count_once(tmp_path):
    raw = tmp_path / "raw"
    write_study(raw / "A1", "A1")
    write_study(raw / "B1", "B1")
    zipped(raw / "A1", raw / "A1.zip")
    report = convert(OwnFolder(raw), tmp_path / "out", OPTIONS)
    (fault,) = report_faults(report)
    assert "the same study as" in fault and "remove one of them" in fault
    assert {name: len(found) for name, found in by_study(tmp_path / "out").items()} == {
        "A1": 8,
        "B1": 8,
    }
    assert verify(tmp_path / "out") == []


def test_a_mask_beside_the_only_study_belongs_to_it(tmp_path):
    raw = tmp_path / "raw"
    study, mask = write_study(raw / "dicom", "A1")
    save_nifti(raw / "embolus_mask.nii.gz", mask, study)
    report = convert(OwnFolder(raw), tmp_path / "out", OPTIONS)
    assert report_faults(report) == []
    assert np.array_equal(masks_in(by_study(tmp_path / "out")["A1"]), mask)


def test_labels_by_the_number_of_a_slice_need_no_study_where_there_is_one(tmp_path):
    raw = tmp_path / "raw"
    write_study(raw / "A1", "A1")
    (raw / "slices.csv").write_text("slice,pe\n3,1\n4,0\n")
    report = convert(OwnFolder(raw), tmp_path / "out", OPTIONS)
    assert report_faults(report) == []
    known = {image["slice_index"]: image["pe_present"] for image in all_images(tmp_path / "out")}
    assert (known[3], known[4], known[0]) == (1, 0, None)


def test_a_patient_of_two_own_sets_is_in_one_split(tmp_path):
    """Two exports of a hospital: other studies of one PatientID."""
    for year, split in ((2023, (1, 0, 0)), (2024, (0, 0, 1))):
        write_study(tmp_path / f"raw{year}" / "s", f"A{year}", PatientID="MRN 4711")
        options = RunOptions(quiet=True, split=split)
        convert(OwnFolder(tmp_path / f"raw{year}"), tmp_path / f"own{year}", options)
    sets = [tmp_path / "own2023", tmp_path / "own2024"]
    with pytest.raises(DataError, match=r"patient MRN 4711 is in train of own2023 and in test of"):
        merge(sets, tmp_path / "all")
    options = RunOptions(quiet=True, known=read_splits(sets[:1], sets[1]))
    shutil.rmtree(sets[1])
    convert(OwnFolder(tmp_path / "raw2024"), sets[1], options)
    merge(sets, tmp_path / "all")
    images = all_images(tmp_path / "all")
    assert len({image["patient_id"] for image in images}) == 2
    assert {image["group"] for image in images} == {"MRN 4711"}
