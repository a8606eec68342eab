"""From decisions to files: masks to the pixel, SEG and SR, a set that merges, honest refusals."""

import json
import shutil

import highdicom as hd
import nibabel
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pydicom.sr.codedict import codes
from review_reading import READER, Reading

from pe_unified.converters.contract.annotations import load_split_file
from pe_unified.converters.merge import merge
from pe_unified.converters.verify import verify
from pe_unified.ct.hu import read_slice_png
from pe_unified.ct.opening import open_study
from pe_unified.datasets import PESliceDataset
from pe_unified.errors import DataError
from pe_unified.reports.analysis import AnalysisOptions, analyse_study
from pe_unified.reports.report import verdict_in_words
from pe_unified.review.export import export_review


@pytest.fixture(scope="module")
def exported(tmp_path_factory, report, folder):
    """Of the called lesions one is redrawn, one rejected, the others accepted; one is added."""
    reading = Reading(tmp_path_factory.mktemp("review"), report[0], folder)
    redrawn, rejected, *accepted = reading.called
    reading.say("redraw", redrawn, reading.draw((3, 30, 34, 20, 25)))
    reading.say("reject", rejected)
    for number in accepted:
        reading.say("accept", number)
    reading.say("add", None, reading.draw((5, 40, 44, 8, 12), (9, 10, 12, 40, 47)))
    for number in (redrawn, accepted[0]):
        reading.say("relabel", number, {"label": "chronic"})
    reading.say("done")
    found = reading.export()
    assert found.studies == [reading.study] and not found.left_out and not found.faults
    return reading, reading.root / "out", (redrawn, rejected, accepted)


def expected_mask(reading, source, fates) -> np.ndarray:
    """Slices, rows, cols: numbers of lesions, put together from the report's mask by hand."""
    redrawn, _, accepted = fates
    told = np.asarray(nibabel.load(source / "mask.nii.gz").dataobj).transpose(2, 1, 0)
    labels = np.where(np.isin(told, accepted), told, 0).astype(int)
    labels[3, 30:34, 20:25] = redrawn
    added = len(reading.lesions) + 1
    labels[5, 40:44, 8:12] = added
    labels[9, 10:12, 40:47] = added
    return labels


def test_masks_are_corrected_to_the_pixel(exported, report):
    reading, out, fates = exported
    expected = expected_mask(reading, report[0], fates)
    place = out / "studies" / reading.report.folder.name
    stored = np.asarray(nibabel.load(place / "mask.nii.gz").dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(stored, expected)
    original, corrected = (nibabel.load(each / "mask.nii.gz") for each in (report[0], place))
    np.testing.assert_array_equal(original.affine, corrected.affine)


def test_the_converted_set_holds_the_correction(exported, report, folder):
    """The loop closes: what training reads is what the reader drew, on the right pixels."""
    reading, out, fates = exported
    expected = expected_mask(reading, report[0], fates)
    assert not verify(out / "set")
    part = load_split_file(out / "set" / "annotations" / "train.json")
    with open_study(folder) as study:
        for image in part.images:
            index = image["slice_index"]
            assert image["sop_uid"] == study.sop_uids[index]
            np.testing.assert_array_equal(
                read_slice_png(out / "set" / image["file_name"]), study.slice_hu(index)
            )
            level = np.zeros(expected.shape[1:], int)
            for each in part.annotations[image["id"]]:
                level[coco_mask.decode(each["segmentation"]) > 0] = each["instance_id"]
            np.testing.assert_array_equal(level, expected[index])
            assert image["pe_present"] == int(level.any())
            assert image["synthetic"] is True  # painted, and the set says so
    (exam,) = part.exams
    assert exam["negative_exam_for_pe"] == 0 and exam["study_uid"] == reading.study
    assert exam["chronic_pe"] is None  # not every lesion has a label


def test_training_takes_the_merged_set(exported, painted_set, tmp_path):
    reading, out, _ = exported
    other = tmp_path / "others"
    shutil.copytree(painted_set[0], other)
    own = reading.study
    for split in ("train", "val", "test"):
        path = other / "annotations" / f"{split}.json"
        content = json.loads(path.read_text())
        content["images"] = [each for each in content["images"] if each["study_uid"] != own]
        ids = {each["id"] for each in content["images"]}
        content["annotations"] = [e for e in content["annotations"] if e["image_id"] in ids]
        content["exams"] = [each for each in content["exams"] if each["study_uid"] != own]
        path.write_text(json.dumps(content))
    merged = tmp_path / "merged"
    merge([other, out / "set"], merged, ["others", "corrected"])
    dataset = PESliceDataset("annotations/train.json", str(merged), needs=("masks",))
    items = [dataset.get_data_info(number) for number in range(len(dataset))]
    mine = [each for each in items if each["study_uid"] == own]
    assert len(mine) == reading.report.shape[0] and len(items) > len(mine)
    (redrawn,) = [each for each in mine if each["slice_index"] == 3]
    whole = np.any([coco_mask.decode(rle) for rle in redrawn["masks"]], axis=0)
    assert whole[30:34, 20:25].all()


def test_seg_and_sr_tell_who_drew_and_who_decided(exported):
    reading, out, (redrawn, rejected, accepted) = exported
    place = out / "studies" / reading.report.folder.name
    segmentation = hd.seg.segread(place / "mask.seg.dcm")
    drawn = {str(s.SegmentLabel): s.SegmentAlgorithmType for s in segmentation.SegmentSequence}
    added = len(reading.lesions) + 1
    assert drawn[f"Lesion {redrawn}"] == "SEMIAUTOMATIC" and drawn[f"Lesion {added}"] == "MANUAL"
    assert f"Lesion {rejected}" not in drawn
    assert set(drawn.values()) == {"SEMIAUTOMATIC", "MANUAL", "AUTOMATIC"}
    structured = hd.sr.srread(place / "findings.sr.dcm")
    names = [
        str(item.value)
        for person in structured.content.get_observer_contexts(observer_type=codes.DCM.Person)
        for item in person
        if item.ValueType == "PNAME"
    ]
    assert names == [f"{READER}^"]
    devices = structured.content.get_observer_contexts(observer_type=codes.DCM.Device)
    assert len(devices) == 1
    rois = structured.content.get_volumetric_roi_measurement_groups()
    rois += structured.content.get_planar_roi_measurement_groups()
    told = {roi.tracking_identifier for roi in rois}
    assert told == {f"lesion {number}" for number in (redrawn, added, *accepted)}
    said = json.loads((place / "corrected.json").read_text())
    fates = {each["number"]: each["fate"] for each in said["lesions"]}
    assert fates[redrawn] == "redrawn" and fates[rejected] == "rejected"
    assert fates[added] == "added" and said["verdict"] == "positive"
    found = {each["number"]: each.get("found") for each in said["lesions"]}
    row, col, step = (
        reading.report.read()["input"]["spacing_mm"][k] for k in ("row", "col", "slice")
    )
    assert found[redrawn]["volume_ml"] == pytest.approx(20 * row * col * step / 1000, abs=1e-4)
    assert found[added]["number"] == added and found[rejected] is None


def test_all_rejected_is_a_negative_study(reading):
    for number in reading.called:
        reading.say("reject", number)
    reading.say("done")
    assert not reading.export().left_out
    part = load_split_file(reading.root / "out" / "set" / "annotations" / "train.json")
    assert {image["pe_present"] for image in part.images} == {0} and not part.annotations
    assert part.exams[0]["negative_exam_for_pe"] == 1
    place = reading.root / "out" / "studies" / reading.report.folder.name
    assert not (place / "mask.seg.dcm").exists() and (place / "findings.sr.dcm").exists()


def test_boxes_are_known_where_masks_are_not(reading):
    for number in reading.called:
        reading.say("reject", number)
    reading.say("add", None, {"box": [10, 12, 5.5, 6], "slice": 4})
    reading.say("add", None, reading.draw((4, 40, 44, 8, 12), (6, 40, 44, 8, 12)))
    reading.say("done")
    reading.export()
    assert not verify(reading.root / "out" / "set")
    part = load_split_file(reading.root / "out" / "set" / "annotations" / "train.json")
    images = {image["slice_index"]: image for image in part.images}
    assert images[4]["labels_known"] == ["slice", "boxes"]
    boxes = [each["bbox"] for each in part.annotations[images[4]["id"]]]
    assert boxes == [[8, 40, 4, 4], [10, 12, 5.5, 6]]
    assert images[6]["labels_known"] == images[0]["labels_known"] == ["slice", "boxes", "masks"]


def test_a_candidate_without_pixels_is_known_by_what_is_known_of_it(reading):
    """Masks hold called lesions only: of an accepted candidate nothing but its place is known."""
    (candidate, *_) = [
        each["number"]
        for each in reading.lesions
        if not each["called"] and each["box_score"] is None
    ]
    for number in reading.called:
        reading.say("reject", number)
    reading.say("accept", candidate)
    reading.say("done")
    reading.export()
    words = reading.lesions[candidate - 1]
    part = load_split_file(reading.root / "out" / "set" / "annotations" / "train.json")
    known = {image["slice_index"]: image for image in part.images}
    key = known[words["key_slice"]]
    assert (key["pe_present"], key["labels_known"]) == (1, ["slice"])
    reach = set(range(words["first_slice"], words["last_slice"] + 1)) - {words["key_slice"]}
    assert all(known[index]["labels_known"] == [] for index in reach)
    assert not verify(reading.root / "out" / "set")


def test_the_words_of_the_model_stay_its_own(exported):
    """A redrawn lesion still counts as one that the model called."""
    reading, out, _ = exported
    place = out / "studies" / reading.report.folder.name
    said = verdict_in_words(reading.report.read())
    assert f"{len(reading.called)} lesions" in said
    assert said.encode() in (place / "findings.sr.dcm").read_bytes()


def test_a_study_that_is_open_again_leaves_nothing_behind(reading):
    for number in reading.called:
        reading.say("accept", number)
    reading.say("done")
    assert reading.export().studies
    reading.say("comment", None, {"text": "wait"})
    reading.say("reject", reading.called[0])
    assert "is not done" in reading.export().left_out[0]
    out = reading.root / "out"
    assert not [path for path in (out / "studies").rglob("*") if path.is_file()]
    assert not (out / "set").exists()


def test_missing_images_cost_no_earlier_export(reading, tmp_path):
    for number in reading.called:
        reading.say("accept", number)
    reading.say("done")
    assert reading.export().studies
    (tmp_path / "unmounted").mkdir()
    found = export_review(reading.root / "reports", reading.root / "out", [tmp_path / "unmounted"])
    assert "no study in --studies" in found.left_out[0]
    out = reading.root / "out"
    assert list((out / "studies").rglob("mask.seg.dcm")) and not verify(out / "set")


def test_each_reader_can_be_exported_alone(reading):
    first, *rest = reading.called
    for reader, kind in ((READER, "accept"), ("Bo", "reject")):
        reading.say(kind, first, reader=reader)
        for number in rest:
            reading.say("reject", number, reader=reader)
        reading.say("done", reader=reader)
    kept = {}
    for name in (READER, None):
        assert not reading.export(name or "newest", reader=name).left_out
        place = reading.root / (name or "newest") / "studies" / reading.report.folder.name
        said = json.loads((place / "corrected.json").read_text())
        kept[name] = {each["fate"] for each in said["lesions"]}
        assert said["readers"][0] == (name or "Bo")
    assert kept == {READER: {"accepted", "rejected"}, None: {"rejected"}}
    with pytest.raises(DataError, match=f"readers here: Bo, {READER}"):
        reading.export("nobody", reader="Di")


def test_studies_are_found_by_their_uids_and_no_others_taken(reading, tmp_path):
    for number in reading.called:
        reading.say("reject", number)
    reading.say("done")
    shutil.move(reading.root / "reports" / reading.folder.name, reading.root / "reports" / "other")
    reading.report = reading.store.report(reading.study)
    assert not reading.export().left_out
    elsewhere = tmp_path / "elsewhere"
    wrong = max(reading.folder.parent.iterdir())
    shutil.copytree(wrong, elsewhere / "other")
    found = export_review(reading.root / "reports", tmp_path / "out2", [elsewhere])
    assert "no study in --studies has the slices" in found.left_out[0]


def test_without_studies_decisions_and_agreement_are_written(reading):
    reading.say("comment", None, {"text": "=1+1"})
    found = export_review(reading.root / "reports", reading.root / "out")
    names = {path.name for path in (reading.root / "out").iterdir()}
    assert names == {"decisions.csv", "readers.csv", "agreement.csv", "agreement.md"}
    assert found.studies == []
    with pytest.raises(DataError, match="lies in"):
        export_review(reading.root / "reports", reading.root / "reports" / "out")


def test_pseudonyms_stay_pseudonyms(predictor, folder, tmp_path):
    key = "a key of many letters"
    options = AnalysisOptions(pseudonym_key=key)
    analyse_study(folder, tmp_path / "first", predictor, options)
    reading = Reading(tmp_path, tmp_path / "first", folder)
    redrawn, *rejected = reading.called
    reading.say("redraw", redrawn, reading.draw((3, 30, 34, 20, 25)))
    reading.say("add", None, reading.draw((5, 40, 44, 8, 12)))
    for number in rejected:
        reading.say("reject", number)
    reading.say("done")
    assert "PE_UNIFIED_KEY" in reading.export().left_out[0]
    assert "under this PE_UNIFIED_KEY" in reading.export(key="another key").left_out[0]
    assert not reading.export(key=key).left_out
    with open_study(folder) as study:
        names = [study.patient_id, study.study_uid, study.series_uid, *study.sop_uids]
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(path.suffix == ".dcm" for path in written)
    for path in written:
        content = path.read_bytes()
        assert not [name for name in names if name.encode() in content], path


def test_a_volume_file_is_found_by_its_name_and_keeps_its_grid(predictor, folder, tmp_path):
    """Its file runs from left to right and from head to feet; the mask comes back in that grid."""
    with open_study(folder) as study:
        hu, affine = study.all_hu(), np.diag([-1.0, -1.0, 1.0, 1.0]) @ study.affine_lps()
    turned = nibabel.Nifti1Image(hu.transpose(2, 1, 0), affine).slicer[::-1, :, ::-1]
    (tmp_path / "ct").mkdir()
    nibabel.save(turned, tmp_path / "ct" / "case.nii.gz")
    nibabel.save(turned.slicer[:, :, :-1], tmp_path / "ct" / "other.nii.gz")
    analyse_study(tmp_path / "ct" / "case.nii.gz", tmp_path / "case.nii.gz", predictor)
    reading = Reading(tmp_path, tmp_path / "case.nii.gz", tmp_path / "ct" / "case.nii.gz")
    assert reading.study == "case.nii.gz"
    for number in reading.called:
        reading.say("accept", number)
    reading.say("add", None, reading.draw((5, 40, 44, 8, 12)))
    reading.say("done")
    place = tmp_path / "ct" / "case.nii.gz"
    place.rename(tmp_path / "ct" / "renamed.nii.gz")  # with the time that it had
    assert reading.export("renamed").studies == ["case.nii.gz"]
    place.with_name("renamed.nii.gz").rename(place)
    assert not reading.export().left_out
    given, stored = (
        np.asarray(nibabel.load(tmp_path / place / "mask.nii.gz").dataobj)
        for place in ("case.nii.gz", "out/studies/case.nii.gz")
    )
    drawn = stored == len(reading.lesions) + 1
    np.testing.assert_array_equal(np.where(drawn, 0, stored), np.where(drawn, 0, given))
    # Columns and slices run the other way in the file.
    count, _, cols = hu.shape
    expected = np.zeros_like(drawn)
    expected[cols - 12 : cols - 8, 40:44, count - 1 - 5] = True
    np.testing.assert_array_equal(drawn, expected)
    assert not list((tmp_path / "out").rglob("*.dcm"))
    part = load_split_file(tmp_path / "out" / "set" / "annotations" / "train.json")
    image = part.images[5]
    masks = [coco_mask.decode(e["segmentation"]) for e in part.annotations[image["id"]]]
    assert np.any(masks, axis=0)[40:44, 8:12].all()
    np.testing.assert_array_equal(read_slice_png(tmp_path / "out/set" / image["file_name"]), hu[5])
