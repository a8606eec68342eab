import os
import re
import shutil

import numpy as np
import pydicom
import pytest
from pycocotools.coco import COCO
from raw_sets import all_images, load_splits, tree, write_fumpe_patient
from scipy.io import savemat

from pe_unified.converters.contract.schema import union_mask
from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.converters.verify import verify
from pe_unified.ct.exam_labels import EXAM_LABELS
from pe_unified.ct.hu import read_slice_png

QUIET = RunOptions(quiet=True)


def convert_fumpe(raw, out, options=QUIET, **settings):
    return convert(Fumpe(raw, **settings), out, options)


def assert_exact(out, truths):
    """Every slice and every mask is where the file order and the positions say."""
    images = all_images(out)
    for name, truth in truths.items():
        own = sorted((i for i in images if i["patient_id"] == name), key=lambda i: i["slice_index"])
        assert len(own) == truth.mask.shape[2]
        order = np.argsort(truth.z)
        assert [image["file_index"] for image in own] == order.tolist()
        for index, image in enumerate(own):
            k = image["file_index"]
            assert image["file_name"] == f"images/{name}/{index:04d}.png"
            assert image["slice_index"] == index
            assert image["z_mm"] == pytest.approx(truth.z[k])
            np.testing.assert_array_equal(read_slice_png(out / image["file_name"]), truth.hu[k])
            mask = union_mask(image["annotations"])
            expected = truth.mask[:, :, k]
            assert image["pe_present"] == int(expected.any())
            np.testing.assert_array_equal(
                np.zeros_like(expected) if mask is None else mask, expected
            )


def test_everything_survives(tmp_path):
    """Files ascend in one patient and descend in the other; names lack zeros (D2 before D10)."""
    truths = {
        "PAT001": write_fumpe_patient(tmp_path / "raw", "PAT001", count=12),
        "PAT002": write_fumpe_patient(tmp_path / "raw", "PAT002", count=11, reversed_z=True),
        "PAT003": write_fumpe_patient(tmp_path / "raw", "PAT003", empty=True, scans="CT_scans_2"),
    }
    report = convert_fumpe(tmp_path / "raw", tmp_path / "out")
    assert report_faults(report) == []
    assert_exact(tmp_path / "out", truths)
    assert verify(tmp_path / "out") == []
    entries = {entry["patient_id"]: entry for entry in report["patients"]}
    assert entries["PAT001"]["mean_hu_in_masks"] == 60
    assert entries["PAT003"]["mean_hu_in_masks"] is None
    parts = load_splits(tmp_path / "out")
    exams = {exam["patient_id"]: exam for part in parts.values() for exam in part["exams"]}
    assert exams["PAT001"]["negative_exam_for_pe"] == 0 and exams["PAT001"]["central_pe"] is None
    assert exams["PAT003"]["negative_exam_for_pe"] == 1 and exams["PAT003"]["central_pe"] == 0
    assert list(exams["PAT001"]) == ["study_uid", "patient_id", *EXAM_LABELS]


def test_pycocotools_opens_it(tmp_path):
    write_fumpe_patient(tmp_path / "raw", "PAT001")
    convert_fumpe(tmp_path / "raw", tmp_path / "out")
    coco = COCO(tmp_path / "out" / "annotations" / "train.json")
    for annotation in coco.loadAnns(coco.getAnnIds()):
        assert coco.annToMask(annotation).sum() == annotation["area"]
    assert coco.loadCats(coco.getCatIds())[0]["name"] == "embolus"
    info = coco.dataset["info"]
    assert info["hu_offset"] == 1024 and info["split_seed"] == 0 and "CC BY" in info["licence"]
    image = coco.dataset["images"][0]
    assert image["spacing_mm"] == [0.7, 0.7, 1.5]
    assert image["labels_known"] == ["slice", "boxes", "masks"]


def test_splits_and_folds_are_by_patient(tmp_path):
    for k in range(1, 9):
        write_fumpe_patient(tmp_path / "raw", f"PAT{k:03d}", count=4, size=24, empty=k > 6)
    options = RunOptions(quiet=True, seed=3, split=(0.5, 0.25, 0.25), folds=3)
    convert_fumpe(tmp_path / "raw", tmp_path / "out", options)
    parts = load_splits(tmp_path / "out")
    patients = {name: {i["patient_id"] for i in part["images"]} for name, part in parts.items()}
    assert [len(patients[name]) for name in ("train", "val", "test")] == [4, 2, 2]
    assert set.union(*(patients[name] for name in ("train", "val", "test"))) == {
        f"PAT{k:03d}" for k in range(1, 9)
    }
    outside = patients["train"] | patients["val"]
    for k in range(3):
        assert patients[f"fold{k}_train"] | patients[f"fold{k}_val"] == outside
        assert not patients[f"fold{k}_train"] & patients[f"fold{k}_val"]
    assert sum(len(patients[f"fold{k}_val"]) for k in range(3)) == 6
    assert verify(tmp_path / "out") == []
    # Without folds the files of the folds go; the slices stay as they are.
    before = (tmp_path / "out" / "images" / "PAT001" / "0000.png").stat().st_ino
    convert_fumpe(tmp_path / "raw", tmp_path / "out")
    assert set(load_splits(tmp_path / "out")) == {"train", "val", "test"}
    assert (tmp_path / "out" / "images" / "PAT001" / "0000.png").stat().st_ino == before


def remove_mat(raw):
    (raw / "GroundTruth" / "PAT002.mat").unlink()


def remove_scan(raw):
    shutil.rmtree(raw / "CT_scans" / "PAT002")


def wrong_variable(raw):
    savemat(raw / "GroundTruth" / "PAT002.mat", {"Labels": np.zeros((48, 48, 8), np.uint8)})


def wrong_shape(raw):
    savemat(raw / "GroundTruth" / "PAT002.mat", {"Mask": np.zeros((40, 48, 8), np.uint8)})


def wrong_count(raw):
    savemat(raw / "GroundTruth" / "PAT002.mat", {"Mask": np.zeros((48, 48, 7), np.uint8)})


def missing_slice(raw):
    (raw / "CT_scans" / "PAT002" / "D4.dcm").unlink()


def truncated_mat(raw):
    path = raw / "GroundTruth" / "PAT002.mat"
    path.write_bytes(path.read_bytes()[:200])


def truncated_pixels(raw):
    path = raw / "CT_scans" / "PAT002" / "D4.dcm"
    path.write_bytes(path.read_bytes()[:-100])


def truncated_header(raw):
    path = raw / "CT_scans" / "PAT002" / "D4.dcm"
    path.write_bytes(path.read_bytes()[:200])


def empty_file(raw):
    (raw / "CT_scans" / "PAT002" / "D4.dcm").write_bytes(b"")


def two_copies(raw):
    shutil.copytree(raw / "CT_scans" / "PAT002", raw / "CT_scans_2" / "PAT002")


def no_slices(raw):
    shutil.rmtree(raw / "CT_scans" / "PAT002")
    (raw / "CT_scans" / "PAT002").mkdir()


def wrong_modality(raw):
    shutil.rmtree(raw / "CT_scans" / "PAT002")
    write_fumpe_patient(raw, "PAT002", Modality="MR")


def masks_in_physical_order(raw):
    """What a loader that sorts by position would have written."""
    truth = write_fumpe_patient(raw, "PAT002", count=12, reversed_z=True)
    savemat(raw / "GroundTruth" / "PAT002.mat", {"Mask": truth.mask[:, :, ::-1]})


def masks_of_another_patient(raw):
    write_fumpe_patient(raw, "PAT002", count=18)
    other = write_fumpe_patient(raw / "aside", "PAT009", seed=5, count=18)
    savemat(raw / "GroundTruth" / "PAT002.mat", {"Mask": other.mask[::-1, ::-1]})
    shutil.rmtree(raw / "aside")


BAD_INPUT = [
    (remove_mat, "CT_scans/PAT002: a scan without a mask; put it under GroundTruth/PAT002.mat"),
    (remove_scan, "GroundTruth/PAT002.mat: a mask without a scan; put it under CT_scans/PAT002"),
    (wrong_variable, "no variable 'Mask'; the file holds Labels; name the mask's variable"),
    (wrong_shape, "the slice is 48 x 48 pixels, the mask of .* 40 x 48; find the mask"),
    (wrong_count, "the mask has 7 slices, the folder 8 axial CT slices; complete the folder"),
    (missing_slice, "the mask has 8 slices, the folder 7 axial CT slices"),
    (truncated_mat, "GroundTruth/PAT002.mat: not a readable MATLAB file .*; download"),
    (truncated_pixels, "CT_scans/PAT002/D4.dcm: the pixels cannot be decoded .*; copy the file"),
    (truncated_header, "CT_scans/PAT002/D4.dcm: .*; copy the file again"),
    (empty_file, "CT_scans/PAT002/D4.dcm: .*; copy the file again"),
    (two_copies, "PAT002: found more than once: CT_scans/PAT002, CT_scans_2/PAT002; keep one"),
    (no_slices, "CT_scans/PAT002: no axial CT slice; point to the folder"),
    (wrong_modality, r"CT_scans/PAT002: MR series, no CT \(left out 8 x modality MR\)"),
    (masks_in_physical_order, "PAT002: the HU check fails: .*; check that masks and slices"),
    (masks_of_another_patient, "PAT002: the HU check fails: .*; check that masks and slices"),
]


@pytest.mark.parametrize(
    ("damage", "message"), BAD_INPUT, ids=lambda value: getattr(value, "__name__", "")
)
def test_bad_input_is_named_and_the_rest_converted(tmp_path, damage, message):
    raw, out = tmp_path / "raw", tmp_path / "out"
    good = {name: write_fumpe_patient(raw, name) for name in ("PAT001", "PAT003")}
    write_fumpe_patient(raw, "PAT002")
    damage(raw)
    report = convert_fumpe(raw, out)
    statuses = {entry["patient_id"]: entry["status"] for entry in report["patients"]}
    assert statuses == {"PAT001": "converted", "PAT002": "skipped", "PAT003": "converted"}
    (fault,) = report_faults(report)
    assert fault.startswith("PAT002 skipped: ")
    assert re.search(message, fault), fault
    assert not (out / "images" / "PAT002").exists()
    assert_exact(out, good)
    assert verify(out) == []
    # Once mended, the patient is converted and the others are left alone.
    before = {name: (out / "images" / name / "0000.png").stat().st_ino for name in good}
    for folder in raw.glob("CT_scans*/PAT002"):
        shutil.rmtree(folder)
    mended = write_fumpe_patient(raw, "PAT002")
    assert report_faults(convert_fumpe(raw, out)) == []
    assert_exact(out, {**good, "PAT002": mended})
    assert before == {name: (out / "images" / name / "0000.png").stat().st_ino for name in good}


def test_a_converted_patient_that_breaks_later_goes(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_fumpe_patient(raw, "PAT001")
    write_fumpe_patient(raw, "PAT002")
    convert_fumpe(raw, out)
    truncated_pixels(raw)
    report = convert_fumpe(raw, out)
    assert report["totals"]["skipped"] == 1
    assert not (out / "images" / "PAT002").exists() and verify(out) == []
    shutil.rmtree(raw / "CT_scans" / "PAT002")
    remove_mat(raw)
    report = convert_fumpe(raw, out)
    assert [entry["patient_id"] for entry in report["patients"]] == ["PAT001"]


def test_hu_check_can_be_waived(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    masks_in_physical_order(raw)
    assert convert_fumpe(raw, out)["totals"]["skipped"] == 1
    assert convert_fumpe(raw, out, check_hu=False)["totals"]["converted"] == 1
    assert verify(out) == []


def test_scouts_duplicates_and_names_without_suffix(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    truth = write_fumpe_patient(raw, "PAT001")
    folder = raw / "CT_scans" / "PAT001"
    shutil.copy(folder / "D3.dcm", folder / "D3 (copy).dcm")
    write_fumpe_patient(
        tmp_path / "aside", "PAT001", count=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    for path in (tmp_path / "aside" / "CT_scans" / "PAT001").iterdir():
        shutil.move(path, folder / f"A{path.name}")
    (folder / "readme.txt").write_text("")
    for path in list(folder.glob("D*.dcm")):
        os.rename(path, path.with_suffix(""))
    report = convert_fumpe(raw, out)
    assert report_faults(report) == []
    assert_exact(out, {"PAT001": truth})
    notes = " / ".join(report["patients"][0]["notes"])
    assert "2 x localizer" in notes and "1 duplicate" in notes and "1 files that are no" in notes


def test_a_second_series_is_left_out(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    truth = write_fumpe_patient(raw, "PAT001", count=9)
    write_fumpe_patient(tmp_path / "aside", "PAT001", count=5, SeriesInstanceUID="7.7")
    for path in (tmp_path / "aside" / "CT_scans" / "PAT001").iterdir():
        shutil.move(path, raw / "CT_scans" / "PAT001" / f"S2-{path.name}")
    report = convert_fumpe(raw, out)
    assert report_faults(report) == []
    assert_exact(out, {"PAT001": truth})
    assert "left out 5 other slices" in report["patients"][0]["notes"][0]


def test_a_gap_in_the_positions_is_noted(tmp_path):
    """The mask has as many slices as the folder: both lack the same ones."""
    truth = write_fumpe_patient(tmp_path / "raw", "PAT001", count=12)
    for k in (5, 6):
        (tmp_path / "raw" / "CT_scans" / "PAT001" / f"D{k + 1}.dcm").unlink()
    kept = np.delete(truth.mask, [5, 6], axis=2)
    savemat(tmp_path / "raw" / "GroundTruth" / "PAT001.mat", {"Mask": kept})
    report = convert_fumpe(tmp_path / "raw", tmp_path / "out")
    assert report_faults(report) == []
    assert "2 slices seem to be missing" in report["patients"][0]["notes"][0]


def test_a_slice_without_a_rescale_takes_that_of_the_others(tmp_path):
    truth = write_fumpe_patient(tmp_path / "raw", "PAT001")
    for k, path in enumerate(sorted((tmp_path / "raw" / "CT_scans" / "PAT001").iterdir())):
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array.astype(np.int32) - 24
        dataset.PixelData = stored.clip(0).astype(np.uint16).tobytes()
        dataset.RescaleIntercept = -1000
        if k == 3:
            del dataset.RescaleIntercept
        dataset.save_as(path)
    convert_fumpe(tmp_path / "raw", tmp_path / "out")
    images = sorted(all_images(tmp_path / "out"), key=lambda image: image["slice_index"])
    for image, hu in zip(images, truth.hu, strict=True):
        found = read_slice_png(tmp_path / "out" / image["file_name"])
        np.testing.assert_array_equal(found.clip(-1000), hu.clip(-1000))


def test_identifiers_that_anonymisers_emptied(tmp_path):
    """No UIDs, no positions: order by file name, z unknown."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    truth = write_fumpe_patient(
        raw,
        "PAT001",
        SeriesInstanceUID=None,
        SOPInstanceUID="",
        StudyInstanceUID=None,
        ImagePositionPatient=None,
        PixelSpacing=[0.5, 0.8],
        InstanceNumber=None,
    )
    report = convert_fumpe(raw, out)
    assert report_faults(report) == []
    images = all_images(out)
    assert [image["file_index"] for image in images] == list(range(8))
    assert {image["z_mm"] for image in images} == {None}
    assert images[0]["spacing_mm"] == [0.5, 0.8, None]
    assert images[0]["study_uid"] == "PAT001"
    assert verify(out) == []
    np.testing.assert_array_equal(read_slice_png(out / images[3]["file_name"]), truth.hu[3])


def test_any_number_of_workers_gives_the_same_bytes(tmp_path):
    write_fumpe_patient(tmp_path / "raw", "PAT001")
    convert_fumpe(tmp_path / "raw", tmp_path / "a")
    convert_fumpe(tmp_path / "raw", tmp_path / "b", RunOptions(quiet=True, workers=2))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
