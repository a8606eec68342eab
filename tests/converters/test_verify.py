"""A converted folder against its contract: pixels, splits and folds."""

import json
import re

import cv2
import numpy as np
from raw_sets import write_fumpe_patient

from pe_unified.converters.pipeline.run import RunOptions, convert
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.converters.verify import verify


def test_a_small_mask_on_lung_is_a_fault(tmp_path):
    mask = np.zeros((48, 48, 8), np.uint8)
    mask[20:23, 30:33, 2] = 1
    write_fumpe_patient(tmp_path / "raw", "PAT001", mask=mask)
    convert(Fumpe(tmp_path / "raw"), tmp_path / "out", RunOptions(quiet=True))
    assert verify(tmp_path / "out") == []
    path = tmp_path / "out" / "images" / "PAT001" / "0002.png"
    cv2.imwrite(str(path), np.full((48, 48), 1024 - 741, np.uint16))
    (fault,) = verify(tmp_path / "out")
    assert "PAT001: the HU check fails: mean -741 HU under the masks" in fault


def test_whole_sets_have_no_fault(converted):
    assert verify(converted / "fumpe") == []
    assert verify(converted / "fumpe", workers=2) == []
    assert verify(converted / "rsna") == []


def on_disk(change):
    """A damage of files beside the JSON."""
    return lambda content: change


def test_pixels_are_looked_at(damaged):
    def eight_bit(out):
        path = out / "images" / "PAT001" / "0003.png"
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.uint8))

    def cut(out):
        path = out / "images" / "PAT002" / "0003.png"
        path.write_bytes(path.read_bytes()[:40])

    def lost(out):
        (out / "images" / "PAT001" / "0004.png").unlink()

    def extra(out):
        (out / "images" / "PAT001" / "extra.png").write_bytes(b"")

    def shifted(out):
        """The masks of one patient on slices that run the other way."""
        files = sorted((out / "images" / "PAT001").iterdir())
        contents = [path.read_bytes() for path in files]
        for path, content in zip(files, reversed(contents), strict=True):
            path.write_bytes(content)

    def no_report(out):
        (out / "conversion_report.json").unlink()

    def empty_report(out):
        (out / "conversion_report.json").write_text("{}")
        (out / "images" / "PAT001" / "0004.png").unlink()

    def odd_report(out):
        (out / "conversion_report.json").write_text('{"patients": [{"patient_id": "PAT001"}]}')

    def no_test(out):
        (out / "annotations" / "test.json").unlink()

    for change, message in (
        (eight_bit, "images/PAT001/0003.png: .* not 16-bit grayscale"),
        (cut, "images/PAT002/0003.png: .*cannot be decoded"),
        (lost, "images/PAT001/0004.png: listed, but no such file"),
        (extra, "images/PAT001/extra.png: on disk, but in no split"),
        (shifted, "PAT001: the HU check fails"),
        (no_report, r"conversion_report\.json: cannot be read"),
        (empty_report, r"conversion_report\.json: is not a list of patients"),
        (empty_report, "images/PAT001/0004.png: listed, but no such file"),
        (odd_report, r"conversion_report\.json: is not a list of patients"),
        (no_test, r"annotations/test\.json is missing"),
    ):
        faults = damaged(on_disk(change))
        assert any(re.search(message, fault) for fault in faults), (change.__name__, faults)


def test_patients_in_two_splits(damaged, converted):
    train = json.loads((converted / "fumpe/annotations/train.json").read_text())

    def leak(content):
        patient = train["images"][0]["patient_id"]
        content["images"] += [i for i in train["images"] if i["patient_id"] == patient]
        content["exams"] += [e for e in train["exams"] if e["patient_id"] == patient]

    faults = damaged(leak, part="test")
    assert any(fault.startswith("train and test share 1 of patient_id") for fault in faults)
    assert any("share 12 image ids" in fault for fault in faults)
    for key in ("study_uid", "sop_uid"):
        assert any(f"of {key}: " in fault and "train and test" in fault for fault in faults)


def test_a_group_in_two_splits_or_on_both_sides_of_a_fold(damaged, converted):
    def grouped(out):
        for path in (out / "annotations").glob("*.json"):
            content = json.loads(path.read_text())
            for image in content["images"]:
                image["group"] = "g"
            path.write_text(json.dumps(content))

    faults = damaged(on_disk(grouped))
    for names in ("train and test", "train and val", "fold0_train and fold0_val"):
        assert f"{names} share 1 of group: g" in faults
    assert "patient PAT001: not of group None in the splits" in faults


def test_folds_that_leak_or_lose(damaged, converted):
    other = json.loads((converted / "fumpe/annotations/fold0_train.json").read_text())

    def leak(content):
        content["images"] += other["images"]

    assert any("fold0_train and fold0_val share" in f for f in damaged(leak, part="fold0_val"))

    def lose(content):
        for key in ("images", "annotations", "exams"):
            content[key] = []

    faults = damaged(lose, part="fold0_val")
    assert any("fold0: train and val are not the patients" in fault for fault in faults)
    assert any("validated exactly once" in fault for fault in faults)
