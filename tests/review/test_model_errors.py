"""Errors of a model on painted studies: counted as by hand, binned, each with its picture."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from studies import study_of

from pe_unified.datasets import PESliceDataset
from pe_unified.errors import DataError, UserError
from pe_unified.inference.converted import whole_exams
from pe_unified.inference.predictor import PredictorSettings
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.slice_prediction import SlicePrediction
from pe_unified.review.error_page import write_errors
from pe_unified.review.model_errors import Finding, judge_exam, summarise, vessel_hu


class Oracle:
    """Answers what a test gives it, slice by slice."""

    lungs = volume_model = None

    def __init__(self, predictor, pixels):
        self.model, self.pixels = predictor.model, pixels

    def predict(self, reader, first_look):
        none = np.empty(0, np.int32)
        found = []
        for index in range(len(reader.study)):
            own = self.pixels.get(index, none).astype(np.int32)
            sure = np.full(len(own), 0.95, np.float32)
            boxes = (np.empty((0, 4), np.float32), np.empty(0, np.float32))
            found.append(SlicePrediction(index, 0.1, True, own, sure, *boxes))
        return found


@pytest.fixture(scope="module")
def exams(painted_set):
    return whole_exams(PESliceDataset("annotations/test.json", str(painted_set[0]), test_mode=True))


@pytest.fixture(scope="module")
def exam(exams):
    return next(each for each in exams if each.positive)


def true_pixels(exam):
    """By slice, the pixels of the largest embolus."""
    parts = max(exam.emboli(), key=lambda parts: sum(part.area for part in parts))
    return {part.index: part.pixels for part in parts}, len(exam.emboli())


def test_nothing_seen_is_all_missed(predictor, exam):
    found = [finding for finding, _ in judge_exam(Oracle(predictor, {}), exam)]
    assert [each.kind for each in found] == ["missed"] * len(exam.emboli()) + ["missed exam"]
    assert all(each.score is None for each in found[:-1])
    row = summarise(found, 1)[0]
    assert (row["emboli"], row["found"], row["false"]) == (len(exam.emboli()), 0, 0)


def test_what_is_outlined_is_found_and_the_rest_is_false(predictor, exam):
    pixels, count = true_pixels(exam)
    cols = exam.study.shape[2]
    hu = exam.study.slice_hu(0)
    # Where the attenuation is that of a clot and no embolus is near: soft tissue of slice 0.
    tissue = np.flatnonzero((hu > 0) & (hu < 120))
    middle = tissue[len(tissue) // 2]
    made_up = np.array([middle, middle + 1, middle + cols, middle + cols + 1])
    # In air it is a candidate that is never called, and no error.
    last = len(exam.study) - 1
    air = np.flatnonzero(exam.study.slice_hu(last) < -900)[:4]
    oracle = Oracle(predictor, {**pixels, 0: np.unique(made_up), last: air})
    pairs = list(judge_exam(oracle, exam))
    kinds = [finding.kind for finding, _ in pairs]
    assert kinds.count("found") == 1 and kinds.count("missed") == count - 1
    assert kinds.count("false") == 1 and "missed exam" not in kinds
    false, view = next(pair for pair in pairs if pair[0].kind == "false")
    assert false.slice_index == 0 and false.file.endswith("/0000.png")
    assert false.score == pytest.approx(0.95, abs=1e-4)
    assert np.flatnonzero(view.predicted_mask).tolist() == np.unique(made_up).tolist()
    found, view = next(pair for pair in pairs if pair[0].kind == "found")
    expected = sum(len(own) for own in pixels.values())
    ml = np.prod(exam.study.known_spacing()) / 1000
    assert found.volume_ml == pytest.approx(expected * ml)
    index = found.slice_index
    assert np.flatnonzero(view.truth_mask & view.predicted_mask).tolist() == pixels[index].tolist()


def test_the_contrast_is_what_surrounds_a_lesion(predictor, exam):
    hu = np.full((3, 40, 40), -800, np.int16)
    hu[1, 10:30, 10:30] = 300
    hu[1, 18:22, 18:22] = 50
    study = study_of(hu, spacing=(1.0, 1.0, 1.0))
    own = np.zeros((40, 40), bool)
    own[18:22, 18:22] = True
    lesion = type("Lesion", (), {"key_slice": 1, "pixels": {1: np.flatnonzero(own)}})
    assert vessel_hu(lesion, SliceReader(study)) == 300
    boxed = type("Lesion", (), {"key_slice": 1, "pixels": {}, "box": (18.0, 18.0, 22.0, 22.0)})
    assert vessel_hu(boxed, SliceReader(study)) == 300
    hu[1, 10:30, 10:30] = 80
    assert vessel_hu(lesion, SliceReader(study)) == 80


def finding(kind, patient="P", volume_ml=0.3, side="left", level="central", vessel=250.0):
    place = ("study", 3, "images/P/0003.png", 0.5, volume_ml, 40.0)
    return Finding(kind, patient, *place, side, level, vessel)


def test_the_summary_counts_by_size_place_and_contrast():
    found = [
        finding("found", "A"),
        finding("missed", "A", 0.05, "right", "segmental", 150.0),
        finding("found", "B", 0.1, vessel=200.0),
        finding("found", "B", None, None, None, None),
        finding("false", "B", 0.5, vessel=350.0),
        finding("missed exam", "C", None, None, None, None),
    ]
    rows = {(row["by"], row["bin"]): row for row in summarise(found, exams=4)}
    assert rows["all", "all"]["sensitivity"] == 0.75
    low, high = rows["all", "all"]["sensitivity_ci"]
    assert low < 0.75 < high
    assert rows["all", "all"]["false_per_exam"] == 0.25
    counts = {key: (row["emboli"], row["found"], row["false"]) for key, row in rows.items()}
    expected = {
        ("all", "all"): (4, 3, 1),
        ("size", "under 0.1 ml"): (1, 0, 0),
        ("size", "0.1 to 0.5 ml"): (2, 2, 0),
        ("size", "0.5 ml and more"): (0, 0, 1),
        ("size", "unknown"): (1, 1, 0),
        ("side", "left"): (2, 2, 1),
        ("side", "right"): (1, 0, 0),
        ("side", "unknown"): (1, 1, 0),
        ("level", "central"): (2, 2, 1),
        ("level", "segmental"): (1, 0, 0),
        ("level", "unknown"): (1, 1, 0),
        ("contrast", "under 200 HU"): (1, 0, 0),
        ("contrast", "200 to 350 HU"): (2, 2, 0),
        ("contrast", "350 HU and more"): (0, 0, 1),
        ("contrast", "unknown"): (1, 1, 0),
    }
    assert list(counts.items()) == list(expected.items())
    assert rows["side", "left"]["sensitivity_ci"] is None  # leaving one out changes nothing


def test_the_page_leads_to_every_picture(checkpoint, painted_set, tmp_path):
    model = PredictorSettings(str(checkpoint), device="cpu", precision="fp32")
    found = write_errors(model, painted_set[0], tmp_path / "out", most=1)
    stored = json.loads((tmp_path / "out" / "errors.json").read_text())
    assert stored == json.loads(json.dumps(found)) and stored["errors"]
    kinds = {each["kind"] for each in stored["errors"]}
    pictures = [each["picture"] for each in stored["errors"] if each["picture"]]
    assert len(pictures) == len(kinds)
    page = (tmp_path / "out" / "index.html").read_text()
    assert sorted(re.findall(r'href="(slices/[^"]+)"', page)) == sorted(pictures)
    assert all((tmp_path / "out" / each).stat().st_size > 1000 for each in pictures)
    assert len(re.findall(r'<tr class="error"', page)) == len(stored["errors"])
    assert "Research software" in page
    assert "if 10 % of its mask or more lie in emboli" in " ".join(page.split())
    for each in stored["errors"]:
        assert (Path(painted_set[0]) / each["file"]).is_file()


def test_what_cannot_be_judged_is_said(checkpoint, painted_set, tmp_path):
    model = PredictorSettings(str(checkpoint), device="cpu", precision="fp32")
    with pytest.raises((UserError, OSError, ValueError), match="val"):
        write_errors(model, painted_set[0], tmp_path / "out", split="val")
    with pytest.raises(DataError, match="lies in"):
        write_errors(model, painted_set[0], painted_set[0] / "out")
