"""What a report measures in masks that are given: JSON, page and command line."""

import copy
import json
import re

import nibabel
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from studies import study_of, write_checkpoint, write_exam_checkpoint
from test_exam_answer import SCHEMA, page_of
from test_page import CHROMIUM, browser

from pe_unified.ct.opening import open_study
from pe_unified.ct.structures import LEFT_VENTRICLE, RIGHT_VENTRICLE, Structure, Structures
from pe_unified.errors import DataError
from pe_unified.inference.exam import ExamAnswer, load_exam_model
from pe_unified.inference.lesions import Lesion
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.phantom.study import STRUCTURES
from pe_unified.reports.analysis import AnalysisOptions, analyse_study
from pe_unified.reports.exam_block import exam_model_block
from pe_unified.reports.measurements import measure, obstruction_in_words, ratio_in_words

pytestmark = pytest.mark.usefixtures("without_dicom")

_PAINTED = {
    RIGHT_VENTRICLE: "right_ventricle",
    LEFT_VENTRICLE: "left_ventricle",
    "pulmonary_artery": "artery",
}


@pytest.fixture(scope="module")
def masks(painted_set, folder, tmp_path_factory):
    """The painted structures of the folder's patient, as TotalSegmentator would write them."""
    out = tmp_path_factory.mktemp("structures")
    truth = np.load(painted_set[1] / f"{folder.name}.npz")["structures"]
    with open_study(folder) as study:
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ study.affine_lps()
    for name, painted in _PAINTED.items():
        mask = (truth == STRUCTURES[painted]).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(mask.T, affine), out / f"{name}.nii.gz")
    return out


@pytest.fixture(scope="module")
def measured(predictor, folder, masks, tmp_path_factory):
    out = tmp_path_factory.mktemp("measured")
    return out, analyse_study(folder, out, predictor, AnalysisOptions(structures=masks))


def test_the_report_measures_in_the_masks_and_stays_what_it_was(measured, report):
    out, found = measured
    stored = json.loads((out / "report.json").read_text())
    Draft202012Validator(SCHEMA).validate(stored)
    assert stored["measurements"] == json.loads(json.dumps(found["measurements"]))
    for part in ("exam", "lesions", "slices", "quality"):
        assert found[part] == report[1][part], part
    block = found["measurements"]
    assert block["structures"] == list(_PAINTED)
    ratio = block["rv_lv_ratio"]
    assert ratio["reason"] is None and 0.4 < ratio["ratio"] < 2.5
    right, left = ratio["right"], ratio["left"]
    assert ratio["ratio"] == pytest.approx(right["diameter_mm"] / left["diameter_mm"], abs=0.01)
    spacing = found["input"]["spacing_mm"]
    for side in (right, left):
        (x1, y1), (x2, y2) = side["ends"]
        length = np.hypot((x2 - x1) * spacing["col"], (y2 - y1) * spacing["row"])
        assert length == pytest.approx(side["diameter_mm"], abs=1)


def test_the_page_has_the_ratio_beside_the_verdict(measured):
    out, found = measured
    text = (out / "report.html").read_text("utf-8")
    ratio = found["measurements"]["rv_lv_ratio"]
    answer = re.search(r'<section class="answer">(.*?)</section>', text, re.S)[1]
    assert f"<b>{ratio['ratio']:.2f}</b>RV/LV" in answer
    assert f"RV/LV is {ratio_in_words(found)}." in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    drawn = {each["index"] for each in data["slices"] if 'class="chord"' in each["marks"]}
    assert drawn == {ratio["right"]["slice"], ratio["left"]["slice"]}


def test_the_page_has_the_ratio_beside_the_answer_of_an_exam_model(
    predictor, folder, masks, tmp_path
):
    checkpoint = write_exam_checkpoint(tmp_path / "exam.pth")
    model = load_exam_model(checkpoint, device="cpu", precision="fp32")
    both = StudyPredictor(predictor.model, exam_model=model)
    found = analyse_study(folder, tmp_path / "out", both, AnalysisOptions(structures=masks))
    text = (tmp_path / "out/report.html").read_text("utf-8")
    answer = re.search(r'<section class="answer">(.*?)</section>', text, re.S)[1]
    assert "RV/LV" not in answer
    section = re.search(r'<section id="exam-labels">(.*?)</section>', text, re.S)[1]
    assert f"It is {ratio_in_words(found)}." in section


def test_the_page_has_the_ratio_where_an_exam_model_answers_nothing(measured, tmp_path):
    found = copy.deepcopy(measured[1])
    checkpoint = write_exam_checkpoint(tmp_path / "exam.pth")
    model = load_exam_model(checkpoint, device="cpu", precision="fp32")
    found["exam_model"] = exam_model_block(model, ExamAnswer("no lungs were found"), None)
    answer = re.search(r'<section class="answer">(.*?)</section>', page_of(found), re.S)[1]
    assert f"<b>{found['measurements']['rv_lv_ratio']['ratio']:.2f}</b>RV/LV" in answer
    assert page_of(found).count(ratio_in_words(found)) == 1


def test_an_estimate_is_called_so(measured):
    found = copy.deepcopy(measured[1])
    found["measurements"]["obstruction"] |= {
        "percent": 42.4,
        "reason": None,
        "clot_reached_percent": 80.0,
        "arteries_ml": 90.0,
    }
    text = page_of(found)
    assert (
        "Obstruction of the arteries 42 %: an estimate from masks, not the Qanadli score by a "
        "reader; 20 % of the volume of the lesions lies outside the arteries given." in text
    )


def cube(low, high):
    mask = np.zeros((20, 60, 90), bool)
    mask[tuple(slice(*ends) for ends in zip(low, high, strict=True))] = True
    return Structure.cut(mask)


STUDY = study_of(np.zeros((20, 60, 90), np.int16), (1.0, 1.0, 2.0))
RIGHT, LEFT = cube((3, 10, 10), (9, 40, 30)), cube((3, 10, 38), (9, 40, 68))
#: An artery that begins above the right ventricle and forks, and a lesion in one half of it.
ARTERY = Structure.cut(
    cube((9, 20, 15), (13, 30, 25)).on((0, 0, 0), STUDY.shape)
    | cube((13, 20, 5), (20, 30, 13)).on((0, 0, 0), STUDY.shape)
    | cube((13, 20, 27), (20, 30, 35)).on((0, 0, 0), STUDY.shape)
    | cube((12, 20, 5), (13, 30, 35)).on((0, 0, 0), STUDY.shape)
)


def lesion(mask, called=True):
    pixels = {index: np.flatnonzero(level) for index, level in enumerate(mask) if level.any()}
    empty = dict.fromkeys(Lesion.__dataclass_fields__)
    return Lesion(**empty | {"pixels": pixels, "called": called, "volume_ml": mask.sum() * 0.002})


def clot(low, high, **settings):
    return lesion(cube(low, high).on((0, 0, 0), STUDY.shape), **settings)


def measured_in(lesions=(), tasks=("seg",), **masks):
    names = {"right": RIGHT_VENTRICLE, "left": LEFT_VENTRICLE, "artery": "pulmonary_artery"}
    given = {names.get(name, name): mask for name, mask in masks.items()}
    return measure(STUDY, lesions, tasks, Structures(given))


def test_numbers_of_known_blocks():
    plug = clot((14, 20, 5), (19, 30, 13))
    block = measured_in([plug], right=RIGHT, left=LEFT, artery=ARTERY)
    ratio, blocked = block["rv_lv_ratio"], block["obstruction"]
    assert ratio["ratio"] == pytest.approx(20 / 30, abs=0.01) and ratio["notes"] == []
    assert ratio["right"]["diameter_mm"] == pytest.approx(20, abs=0.5)
    assert [end[0] for end in ratio["left"]["ends"]] == pytest.approx([38, 68], abs=0.3)
    assert 3 <= ratio["left"]["slice"] < 9
    # Ten voxels of plug in a tree of blocks read somewhat low.
    assert blocked["percent"] == pytest.approx(50, abs=9)
    assert blocked["clot_reached_percent"] == 100.0
    assert block["clot_volume_ml"] == pytest.approx(5 * 10 * 8 * 0.002)


def test_candidates_obstruct_nothing():
    plug = clot((14, 20, 5), (19, 30, 13), called=False)
    blocked = measured_in([plug], right=RIGHT, artery=ARTERY)["obstruction"]
    assert blocked["percent"] == 0 and blocked["clot_reached_percent"] is None


def test_arteries_of_two_masks_are_one():
    part = Structure.cut(ARTERY.mask[:6], ARTERY.start)
    rest = Structure.cut(ARTERY.mask[6:], (ARTERY.start[0] + 6, *ARTERY.start[1:]))
    whole = measured_in(right=RIGHT, artery=ARTERY)["obstruction"]
    assert measured_in(right=RIGHT, artery=part, lung_arteries=rest)["obstruction"] == whole
    assert whole["arteries_ml"] == pytest.approx(ARTERY.mask.sum() * 0.002, abs=0.1)


EMPTY = Structure.cut(np.zeros((1, 1, 1), bool))


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        ({}, "not measured: no mask of the ventricles is given"),
        ({"left": LEFT}, "not measured: no mask of the right ventricle is given"),
        ({"right": RIGHT}, "not measured: no mask of the left ventricle is given"),
        ({"right": EMPTY, "left": LEFT}, "the mask of the right ventricle is empty"),
        ({"right": EMPTY, "left": EMPTY}, "the mask of the right ventricle is empty"),
    ],
)
def test_why_the_ratio_is_not_measured(masks, reason):
    block = measured_in(**masks)
    assert block["rv_lv_ratio"]["ratio"] is None
    assert reason in ratio_in_words({"measurements": block})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"right": RIGHT}, "not estimated: no mask of the arteries is given"),
        ({"right": RIGHT, "artery": EMPTY}, "the mask of the pulmonary arteries is empty"),
        ({"artery": ARTERY}, "no mask of the right ventricle shows where the arteries begin"),
        ({"artery": ARTERY, "right": EMPTY}, "no mask of the right ventricle"),
        ({"artery": ARTERY, "right": RIGHT, "tasks": ("cls",)}, "does not outline lesions"),
        (
            {"artery": ARTERY, "right": RIGHT, "lesions": [clot((1, 50, 70), (4, 55, 80))]},
            "no lesion touches the arteries",
        ),
    ],
)
def test_why_the_obstruction_is_not_estimated(settings, reason):
    block = measured_in(**settings)
    assert block["obstruction"]["percent"] is None
    assert reason in obstruction_in_words({"measurements": block})


def test_a_ventricle_that_the_scan_cuts_off_is_told():
    block = measured_in(right=cube((0, 10, 10), (9, 40, 30)), left=LEFT)
    note = "the right ventricle is cut off at the end of the scan"
    assert block["rv_lv_ratio"]["notes"] == [note]
    assert ratio_in_words({"measurements": block}).endswith(f"; {note}")


def test_a_model_that_only_classifies_measures_the_heart(folder, masks, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "m.pth", heads=("cls",))
    predictor = StudyPredictor(load_model(checkpoint, device="cpu", precision="fp32"))
    found = analyse_study(folder, tmp_path / "out", predictor, AnalysisOptions(structures=masks))
    Draft202012Validator(SCHEMA).validate(json.loads((tmp_path / "out/report.json").read_text()))
    assert found["measurements"]["rv_lv_ratio"]["ratio"] is not None
    assert "does not outline" in found["measurements"]["obstruction"]["reason"]


def test_wrong_masks_leave_no_report(predictor, folder, tmp_path):
    image = nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4))
    image.affine[:3, 3] = 5000
    nibabel.save(image, tmp_path / f"{RIGHT_VENTRICLE}.nii.gz")
    with pytest.raises(DataError, match="does not overlap the study"):
        analyse_study(folder, tmp_path / "out", predictor, AnalysisOptions(structures=tmp_path))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_click_on_the_ratio_shows_the_diameter(measured, tmp_path):
    probe = """<script>
    document.querySelector(".answer [data-slice]").click();
    const line = document.querySelector("#marks .chord").getBoundingClientRect();
    document.title = byId("where").textContent.split(",")[0] + "|" + (line.width > 3);
    </script></body>"""
    page = tmp_path / "probe.html"
    page.write_text((measured[0] / "report.html").read_text().replace("</body>", probe))
    done = browser(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri())
    shown = measured[1]["measurements"]["rv_lv_ratio"]["right"]["slice"]
    assert re.search(r"<title>(.*?)</title>", done.stdout)[1] == f"Slice {shown}|true"
