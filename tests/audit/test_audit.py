"""Planted faults of every kind are found; a sound set has none."""

import json
import shutil

import cv2
import numpy as np
import pytest

from pe_unified.audit import audit
from pe_unified.audit.duplicates import (
    LEAST_CORRELATION,
    Compared,
    find_alike,
    series_findings,
)
from pe_unified.audit.geometry import geometry_findings, series_of
from pe_unified.audit.labels import balance_findings, gap_findings, hu_findings
from pe_unified.audit.page import _bars
from pe_unified.cli import audit as audit_command
from pe_unified.converters.contract.annotations import SplitFile
from pe_unified.converters.contract.fingerprint import slice_print, thumbnail
from pe_unified.converters.contract.hu_check import HuStatistics
from pe_unified.converters.inspection import inspect_set
from pe_unified.ct.hu import read_slice_png, write_slice_png


@pytest.fixture(scope="module")
def sound(painted_set):
    """Two patients to learn from and two for the test, 16 slices each."""
    return painted_set[0]


@pytest.fixture
def own(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "set")


def split_of(root):
    found = {}
    for split in ("train", "val", "test"):
        coco = json.loads((root / f"annotations/{split}.json").read_text())
        found |= {image["patient_id"]: split for image in coco["images"]}
    return found


def of_split(root, split):
    return [patient for patient, where in split_of(root).items() if where == split]


def copy_slices(root, source, target, noise=0.0):
    rng = np.random.default_rng(1)
    for path in sorted((root / "images" / source).glob("*.png")):
        hu = read_slice_png(path) + rng.normal(0, noise, (64, 64))
        write_slice_png(root / "images" / target / path.name, np.rint(hu).astype(np.int16))


def errors(found):
    return [each for each in found["findings"] if each["severity"] == "error"]


def test_a_sound_set_has_no_error(sound, tmp_path):
    found = audit(sound, tmp_path)
    assert found["errors"] == 0 and errors(found) == []
    assert found["compared"].startswith("64 slices compared")
    assert found["splits"]["train"]["patients"] == 2
    assert json.loads((tmp_path / "audit.json").read_text()) == json.loads(json.dumps(found))
    page = (tmp_path / "index.html").read_text()
    assert "Audit of set" in page and page.count("not a medical device") == 1
    assert page.count("<article>") >= 3 and "data:image/jpeg;base64," in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("noise", [0.0, 15.0])
def test_the_same_scan_in_two_splits_is_a_leak(own, tmp_path, noise):
    test, train = of_split(own, "test")[0], of_split(own, "train")[0]
    copy_slices(own, test, train, noise)
    found = audit(own, tmp_path / "out")
    (leak,) = [each for each in errors(found) if each["check"] == "near-identical slices"]
    assert test in leak["text"] and train in leak["text"]
    assert leak["count"] == 16 if not noise else leak["count"] >= 12
    assert (
        leak["slices"]
        and "error: near-identical slices" in (tmp_path / "out/index.html").read_text()
    )


def test_the_same_scan_within_a_split_is_a_warning(own, tmp_path):
    one, other = of_split(own, "train")
    copy_slices(own, one, other)
    found = audit(own, tmp_path / "out")
    (double,) = [e for e in found["findings"] if e["check"] == "near-identical slices"]
    assert double["severity"] == "warning" and "may be one patient" in double["text"]


def test_a_patient_in_two_splits_ends_with_status_1(own, called, tmp_path):
    path = own / "annotations/test.json"
    coco = json.loads(path.read_text())
    train = of_split(own, "train")[0]
    for image in coco["images"][:3]:
        image["patient_id"] = train
    path.write_text(json.dumps(coco))
    done = called(audit_command.main, "audit", own, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "error: leaks between splits: train and test share 1 of patient_id" in done.stdout
    assert (tmp_path / "out/index.html").is_file()


def test_masks_that_cannot_be_read_are_faults_and_no_end(own, tmp_path):
    path = own / "annotations/train.json"
    coco = json.loads(path.read_text())
    faulty = [{"size": [3, 3], "counts": "09"}, {"size": [64, 64]}, [[1, 1, 9, 1, 9, 9]]]
    for annotation, code in zip(coco["annotations"], faulty):
        annotation["segmentation"] = code
        annotation["image_id"] = coco["annotations"][0]["image_id"]
    path.write_text(json.dumps(coco))
    found = audit(own, tmp_path / "out")
    assert any("not a run-length code" in item for each in errors(found) for item in each["items"])
    assert (tmp_path / "out/index.html").is_file()


def test_slices_of_no_split_are_not_compared(own, tmp_path):
    coco = json.loads((own / "annotations/train.json").read_text())
    aside = coco["images"][0]["patient_id"]
    (own / "annotations/aside.json").write_text(json.dumps(coco))
    coco["images"] = [each for each in coco["images"] if each["patient_id"] != aside]
    kept = {each["id"] for each in coco["images"]}
    coco["annotations"] = [each for each in coco["annotations"] if each["image_id"] in kept]
    (own / "annotations/train.json").write_text(json.dumps(coco))
    assert audit(own, tmp_path / "out")["compared"].startswith("48 slices compared")


def test_a_sound_set_ends_with_status_0(sound, called, tmp_path):
    done = called(audit_command.main, "audit", sound, "--out", tmp_path / "out")
    assert done.returncode == 0 and "no error" in done.stdout
    done = called(audit_command.main, "audit", tmp_path / "none", "--out", tmp_path / "out")
    assert done.returncode == 1 and "no such file or folder" in done.stderr


def test_prints_follow_the_look_not_the_noise():
    rng = np.random.default_rng(0)
    shapes = rng.normal(0, 1, (2, 8, 8)).astype(np.float32)
    one, other = (cv2.resize(300 * shape, (96, 96)) for shape in shapes)
    looks = [slice_print("", hu.astype(np.int16)).look for hu in (one, other)]
    noisy = slice_print("", (one + rng.normal(0, 30, one.shape)).astype(np.int16)).look
    larger = slice_print("", cv2.resize(one, (192, 192)).astype(np.int16)).look
    apart = [bin(looks[0] ^ look).count("1") for look in (looks[1], noisy, larger)]
    assert apart[0] > 10 and max(apart[1:]) <= 3
    assert slice_print("", np.full((64, 64), -1024, np.int16)).look == -1


def test_different_chests_are_less_alike_than_a_noisy_copy(sound):
    files = sorted((sound / "images").glob("*/*.png"))
    small = np.stack([thumbnail(read_slice_png(file), 64).ravel() for file in files])
    noise = np.random.default_rng(0).normal(0, 40, (len(files), 64, 64))
    copies = [
        thumbnail((read_slice_png(file) + own).round().astype(np.int16), 64).ravel()
        for file, own in zip(files, noise)
    ]
    same = [np.corrcoef(one, copy)[0, 1] for one, copy in zip(small, copies)]
    apart = np.array([one.parent != other.parent for one in files for other in files])
    assert np.corrcoef(small).ravel()[apart].max() < 0.99
    assert np.median(same) > LEAST_CORRELATION


def test_blank_slices_are_no_copies(tmp_path):
    air = slice_print("a", np.full((64, 64), -1024, np.int16))
    prints = [air, slice_print("b", np.full((64, 64), -1024, np.int16))]
    assert find_alike(tmp_path, prints, {"a": "p", "b": "q"}) == Compared({}, 0, 0)


def test_of_very_many_slices_an_even_part_is_compared(own, monkeypatch):
    test, train = of_split(own, "test")[0], of_split(own, "train")[0]
    copy_slices(own, test, train, noise=5.0)
    seen = inspect_set(own, prints=True)
    owners = {each.file_name: each.file_name.split("/")[1] for each in seen.prints}
    monkeypatch.setattr("pe_unified.audit.duplicates._MOST_PRINTS", 32)
    found = find_alike(own, seen.prints, owners)
    assert found.slices == 32 and sorted((test, train)) == list(*found.alike)


def image(patient, index, **more):
    return {
        **dict(id=index, file_name=f"{patient}/{index}", patient_id=patient, study_uid=patient),
        **dict(series_uid=None, slice_index=index, z_mm=2.0 * index, height=64, width=64),
        **dict(spacing_mm=[0.7, 0.7, 2.0], orientation=[1, 0, 0, 0, 1, 0], pe_present=0),
        **more,
    }


def test_a_series_in_two_splits_is_a_leak():
    one, other = image("a", 0, series_uid="1.2"), image("b", 0, series_uid="1.2")
    assert list(series_findings([(one, "train"), (other, "train")])) == []
    assert list(series_findings([(image("a", 0), "train"), (image("b", 0), "test")])) == []
    (found,) = series_findings([(one, "train"), (other, "test")])
    assert found.severity == "error" and list(found.items) == ["1.2: a (train), b (test)"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(spacing_mm=[0.7, 0.7, None]), "spacing is unknown: 1 series of b"),
        (dict(spacing_mm=[0.7, 0.8, 2.0]), "not square: 1 series of b"),
        (dict(spacing_mm=[3.0, 3.0, 2.0]), "larger than 2.5 mm: 1 series of b"),
        (dict(spacing_mm=[0.7, 0.7, 5.0]), "more than 3 mm apart"),
        (dict(orientation=[1, 0, 0, 0, 0, -1]), "not axial: 1 series of b"),
        (
            dict(orientation=[-1, 0, 0, 0, 1, 0]),
            "run in another direction than in most series: 1 series of b",
        ),
        (
            dict(orientation=None),
            "orientation is unknown, although other series have one: 1 series of b",
        ),
    ],
)
def test_odd_geometry_is_named(change, said):
    usual = [image(patient, index) for patient in "ac" for index in range(5)]
    assert list(geometry_findings(series_of(usual))) == []
    odd = [image("b", index, **change) for index in range(5)]
    assert said in "; ".join(each.text for each in geometry_findings(series_of([*usual, *odd])))


def test_missing_slices_are_named():
    slices = [image("a", index) for index in (0, 1, 2, 5, 6)]
    (found,) = geometry_findings(series_of(slices))
    assert "missing in between: 1 series of a" in found.text


def test_a_negative_slice_within_an_embolus_is_doubted():
    images = [image("a", k, pe_present=int(k in (1, 3, 6, 8))) for k in range(9)]
    boxes = {1: [10, 10, 5, 5], 3: [12, 12, 5, 5], 6: [0, 0, 5, 5], 8: [40, 40, 5, 5]}
    part = SplitFile("train", {}, images, {k: [{"bbox": box}] for k, box in boxes.items()}, [])
    (found,) = gap_findings({"train": part}, ["train"])
    assert list(found.items) == ["a/2"]


def test_hu_unlike_the_others_are_named():
    def of(mean):
        return HuStatistics(pixels=100, total=100.0 * mean, typical=90)

    usual = {f"p{k}": of(50 + k) for k in range(12)}
    assert list(hu_findings(usual)) == []
    (found,) = hu_findings({**usual, "odd": of(150)})
    assert list(found.items) == ["odd"] and "odd (150 HU)" in found.text


def test_every_patient_stands_over_the_hu_of_its_masks():
    bars = _bars([20.0, 39.9, 40.0, 85.0, -0.1])
    told = {bar["low"]: bar["count"] for bar in bars}
    assert told == {-20: 1, 0: 0, 20: 2, 40: 1, 60: 0, 80: 1}
    assert bars[2]["height"] == 2 * bars[0]["height"] and _bars([]) == []


def test_splits_without_a_class_are_named():
    def split(**more):
        return {
            **dict(patients=20, positive_patients=8, slices=100, positive_slices=20),
            **dict(unlabelled_slices=0),
            **more,
        }

    assert list(balance_findings({"train": split(), "val": split()})) == []
    for change, said in (
        (dict(positive_slices=0, positive_patients=0), "only slices without embolism"),
        (dict(positive_patients=20), "every patient has embolism"),
        (dict(patients=5, positive_patients=2), "5 patients"),
        (dict(slices=0), "val is empty"),
        (dict(unlabelled_slices=100, positive_slices=0), "no slice is labelled"),
        (dict(positive_slices=5), "shares of positive slices differ: train 20.0%, val 5.0%"),
    ):
        found = balance_findings({"train": split(), "val": split(**change)})
        assert said in "; ".join(each.text for each in found), said
