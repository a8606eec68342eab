"""An exam model's answer in every file of a report, beside a verdict that is not its own."""

import copy
import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from studies import exam_model_config, write_checkpoint, write_exam_checkpoint
from test_page import CHROMIUM, browser

import pe_unified.reports
from pe_unified.ct.exam_labels import EXAM_TARGETS, EXAM_WEIGHTS
from pe_unified.inference.exam import ExamAnswer, load_exam_model
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.reports.analysis import analyse_study
from pe_unified.reports.batch import analyse_many
from pe_unified.reports.exam_block import exam_model_block, percent
from pe_unified.reports.exam_view import attention_of, in_plain_words, questions
from pe_unified.reports.page import Curve, render_page

SCHEMA = json.loads(Path(pe_unified.reports.__file__).with_name("report.schema.json").read_text())


def load(path):
    return load_exam_model(path, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def exam_checkpoint(tmp_path_factory):
    return write_exam_checkpoint(tmp_path_factory.mktemp("exam") / "exam.pth")


@pytest.fixture(scope="module")
def exam_model(exam_checkpoint):
    return load(exam_checkpoint)


@pytest.fixture(scope="module")
def both(predictor, exam_model):
    return StudyPredictor(predictor.model, exam_model=exam_model)


@pytest.fixture(scope="module")
def answered(both, folder, tmp_path_factory):
    """The folder that was written, and the report."""
    out = tmp_path_factory.mktemp("answered")
    return out, analyse_study(folder, out, both)


def page_of(report):
    return render_page(report, slices=[], keys=[], first=0, left_side="right")


def test_the_answer_stands_beside_the_verdict_and_changes_nothing_of_it(answered, report):
    out, found = answered
    stored = json.loads((out / "report.json").read_text())
    Draft202012Validator(SCHEMA).validate(stored)
    assert stored == json.loads(json.dumps(found))
    without = report[1]
    assert without["exam_model"] is None
    for part in ("exam", "lesions", "slices", "model", "thresholds", "quality", "measurements"):
        assert found[part] == without[part], part
    block = found["exam_model"]
    assert block["model"]["checkpoint"] == "exam.pth" and block["reason"] is None
    assert set(block["labels"]) == set(EXAM_WEIGHTS)
    assert block["positive"] == (block["score"] >= block["threshold"])
    assert block["agrees"] == (block["positive"] == found["exam"]["positive"])
    assert set(found["seconds"]) == set(without["seconds"]) | {"exam_model"}
    for row in block["attention"].values():
        assert len(row) == len(block["steps"]) and sum(row) == pytest.approx(1, abs=1e-4)


def test_what_is_not_measured_is_said_to_be_not(answered):
    measured = answered[1]["measurements"]
    listed = [lesion for lesion in answered[1]["lesions"] if lesion["called"]]
    volume = sum(lesion["volume_ml"] or 0 for lesion in listed)
    assert volume and measured["clot_volume_ml"] == pytest.approx(volume, abs=1e-2)
    text = (answered[0] / "report.html").read_text("utf-8")
    assert "Obstruction of the arteries not estimated: no mask of the arteries is given." in text
    assert "It is not measured: no mask of the ventricles is given." in text


def test_the_page_has_a_bar_for_every_label(answered):
    block = answered[1]["exam_model"]
    text = (answered[0] / "report.html").read_text("utf-8")
    section = re.search(r'<section id="exam-labels">(.*?)</section>', text, re.S)[1]
    widths = [float(width) for width in re.findall(r"width: ([\d.]+)%", section)]
    shown = [
        block["probability"] if name == EXAM_TARGETS[0] else block["labels"][name]
        for question in (
            ("positive_exam_for_pe", "negative_exam_for_pe", "indeterminate"),
            ("central_pe", "rightsided_pe", "leftsided_pe"),
            ("chronic_pe", "acute_and_chronic_pe"),
            ("rv_lv_ratio_gte_1", "rv_lv_ratio_lt_1"),
        )
        for name in question
    ]
    assert widths == pytest.approx([100 * value for value in shown], abs=0.06)
    said = [name for name, value in block["labels"].items() if value > 0.5]
    if block["positive"]:
        said = [name for name in said if name != "negative_exam_for_pe"] + ["positive"]
    assert section.count('class="label yes"') == len(said)
    assert "The exam model: <b>not known what it was trained on</b>." in text
    assert "exam model, sha256" in text and block["model"]["sha256"] in text


@pytest.mark.parametrize("called", [True, False, None])
def test_embolism_and_its_absence_are_not_both_said(answered, called):
    block = copy.deepcopy(answered[1]["exam_model"])
    block["positive"], block["labels"]["negative_exam_for_pe"] = called, 0.51
    bars = {bar.words: bar for bar in questions(block)["Is there embolism?"]}
    assert bars["embolism"].yes is (called is True)
    assert bars["no embolism"].yes is (called is not True)


@pytest.mark.parametrize("verdict", [True, False, None])
@pytest.mark.parametrize("called", [True, False, None])
def test_where_both_disagree_it_is_said(answered, exam_model, verdict, called):
    found = copy.deepcopy(answered[1])
    found["exam"]["positive"] = verdict
    answer = ExamAnswer(positive=0.3, calibrated=0.2, called=called)
    block = exam_model_block(exam_model, answer, verdict)
    found["exam_model"] |= {key: block[key] for key in ("positive", "agrees", "score")}
    expected = None if None in (verdict, called) else verdict == called
    assert found["exam_model"]["agrees"] is expected
    text = page_of(found)
    assert ('id="disagreement"' in text) == (expected is False)
    if expected is False:
        words = {True: "positive", False: "negative"}
        said = f"calls this exam {words[called]}, the verdict is {words[verdict]}; the verdict"
        assert text.count(said) == 1
    call = {True: "called positive (", False: "called negative (", None: "no threshold is set ("}
    assert call[called] in text


def test_without_lungs_the_report_is_written_and_says_why(both, tmp_path):
    volume = np.full((64, 64, 12), 40, np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2, 2, 2, 1.0])), tmp_path / "ct.nii")
    found = analyse_study(tmp_path / "ct.nii", tmp_path / "out", both)
    Draft202012Validator(SCHEMA).validate(json.loads((tmp_path / "out/report.json").read_text()))
    assert "no lungs were found" in found["exam_model"]["reason"]
    assert found["exam_model"]["agrees"] is None and not found["exam_model"]["steps"]
    text = (tmp_path / "out/report.html").read_text("utf-8")
    assert "exam.pth: no answer: no lungs were found" in text and 'class="bar"' not in text


def test_labels_that_are_not_answered_are_no_zeros(predictor, folder, tmp_path):
    labels = ("rv_lv_ratio_gte_1", "rv_lv_ratio_lt_1")
    config = {**exam_model_config(labels=labels), "step_head": None}
    config["exam_head"]["pool"] = "mean"
    model = load(write_exam_checkpoint(tmp_path / "heart.pth", config))
    found = analyse_study(
        folder, tmp_path / "out", StudyPredictor(predictor.model, exam_model=model)
    )
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(found)))
    block = found["exam_model"]
    assert [name for name, value in block["labels"].items() if value is not None] == list(labels)
    assert {step["probability"] for step in block["steps"]} == {None}
    text = (tmp_path / "out/report.html").read_text("utf-8")
    assert text.count("not answered</span>") == 8 and 'id="label"' not in text
    assert "it does not answer whether there is embolism" in text
    assert "green: the exam model" not in text


def test_a_slice_model_that_does_not_classify_leaves_the_drawing_to_the_exam_model(
    exam_model, folder, tmp_path
):
    path = write_checkpoint(tmp_path / "m.pth", ("seg",))
    predictor = StudyPredictor(
        load_model(path, device="cpu", precision="fp32"), exam_model=exam_model
    )
    analyse_study(folder, tmp_path / "out", predictor)
    text = (tmp_path / "out/report.html").read_text("utf-8")
    assert "The model does not classify slices" in text
    assert 'class="steps"' in text and text.count('class="attention"') == len(EXAM_TARGETS)


def test_texts_of_a_checkpoint_cannot_break_out(answered):
    found = copy.deepcopy(answered[1])
    hostile = "</p><script>alert(1)</script>"
    found["exam_model"]["model"] |= {"checkpoint": hostile, "training_notice": hostile}
    found["exam_model"] |= {"faults": [hostile], "notes": [hostile]}
    text = page_of(found)
    assert "alert(1)" in text and "<script>alert" not in text


def test_attention_is_drawn_where_the_steps_lie(answered):
    """Widths and heights against numbers worked out by hand."""
    block = {
        "steps": [{"slice": 10}, {"slice": 14}, {"slice": 20}],
        "attention": {"central_pe": [0.5, 0.25, 0.25]},
    }
    drawn = attention_of(block, Curve([], count=100, left=0, right=100))
    assert drawn.most == 2.0  # half of all is 1.5 times a third
    numbers = [float(each) for each in re.findall(r"[\d.]+", drawn.outlines["central_pe"])]
    x0, bottom, *rest, last = numbers
    # Ends lie halfway between two steps, and as far beyond the outer ones; columns of 1 pixel.
    assert (x0, *rest[1::2]) == pytest.approx((8.5, 12.5, 17.5, 23.5))
    tall = (drawn.bottom - drawn.top) / 2
    heights = [drawn.bottom - y for y in rest[::2]]
    assert heights == pytest.approx([1.5 * tall, 0.75 * tall, 0.75 * tall], abs=0.06)
    assert bottom == last == drawn.bottom and drawn.even == drawn.bottom - tall
    alone = {"steps": [{"slice": 3}], "attention": {"central_pe": [1.0]}}
    outline = attention_of(alone, Curve([], count=100, left=0, right=100)).outlines["central_pe"]
    assert outline.startswith("M3.0 ") and "H4.0" in outline
    assert attention_of({"steps": [], "attention": {}}, Curve([], count=9)) is None


def test_words(answered):
    said = in_plain_words("both of chronic_pe and acute_and_chronic_pe, and nothing_else")
    assert said == "both of “chronic” and “acute and chronic”, and nothing_else"
    assert [percent(value) for value in (0, 0.004, 0.01, 0.504, 0.991, 1)] == [
        *("0 %", "<1 %", "1 %", "50 %", ">99 %", "100 %")
    ]
    bars = [bar for row in questions(answered[1]["exam_model"]).values() for bar in row]
    assert len(bars) == len(EXAM_TARGETS)


def test_moved_labels_show_what_was_answered(answered):
    found = copy.deepcopy(answered[1])
    block = found["exam_model"]
    block["labels"]["central_pe"], block["as_answered"]["central_pe"] = 0.5001, 0.41
    block["faults"] = ["positive, yet none of leftsided_pe, rightsided_pe, central_pe"]
    text = page_of(found)
    assert re.search(r"in central arteries.*?50 %.*?answered 41 %", text, re.S)
    assert (
        "none of “on the left”, “on the right”, “in central arteries”); they were changed" in text
    )


def test_the_structured_report_tells_both_apart(answered, report):
    block = answered[1]["exam_model"]
    groups = hd.sr.srread(answered[0] / "findings.sr.dcm").content.get_image_measurement_groups()
    named = {group.tracking_identifier: group for group in groups}
    assert set(named) == {"exam", "exam model"}
    values = {each.name.value: each.value for each in named["exam model"].get_measurements()}
    assert values["pe-positive"] == pytest.approx(block["probability"])
    assert values["pe-left"] == pytest.approx(block["labels"]["leftsided_pe"])
    assert len(values) == len(EXAM_TARGETS) and all(len(code) <= 16 for code in values)
    before = hd.sr.srread(report[0] / "findings.sr.dcm").content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in before] == ["exam"]


@pytest.mark.usefixtures("in_this_process")
def test_a_batch_lists_the_answers_and_starts_over_with_another_exam_model(
    model, exam_checkpoint, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("pe_unified.reports.files.write_dicom_where_possible", lambda *_: [])
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "one").symlink_to(folder)
    asked = replace(model, exam_checkpoint=str(exam_checkpoint))
    other = write_exam_checkpoint(tmp_path / "other.pth", seed=1)

    def run(settings):
        told = []
        summary = analyse_many(
            tmp_path / "cases", tmp_path / "out", settings, progress=lambda *each: told.append(each)
        )
        return summary.rows[0], len(told)

    row, done = run(asked)
    assert done == 1 and row["status"] == "done"
    block = json.loads((tmp_path / "out/one/report.json").read_text())["exam_model"]
    assert row["exam_model_probability"] == block["probability"]
    assert (row["exam_model_positive"], row["exam_model_agrees"]) == (
        block["positive"],
        block["agrees"],
    )
    assert {name: row[name] for name in EXAM_WEIGHTS} == block["labels"]
    with (tmp_path / "out/summary.csv").open() as file:
        (stored,) = csv.DictReader(file)
    assert stored["leftsided_pe"] == str(block["labels"]["leftsided_pe"])
    assert stored["exam_model"].startswith("called ")
    assert run(asked)[1] == 0
    assert run(replace(asked, exam_checkpoint=str(other)))[1] == 1
    row, done = run(model)
    assert done == 1 and row["exam_model"] is None and row["leftsided_pe"] is None
    assert run(model)[1] == 0


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_label_whose_attention_is_seen_can_be_chosen(answered, tmp_path):
    probe = """<script>
    const seen = () => [...document.querySelectorAll(".attention")]
      .filter(path => getComputedStyle(path).display !== "none").map(path => path.id).join();
    const found = [seen()];
    const choice = document.getElementById("label");
    choice.value = "leftsided_pe"; choice.dispatchEvent(new Event("change"));
    found.push(seen());
    const box = document.querySelectorAll(".along")[1].getBoundingClientRect();
    document.querySelectorAll(".along")[1].dispatchEvent(new MouseEvent("click",
      { bubbles: true, clientX: box.left + box.width * 0.99, clientY: box.top + 9 }));
    found.push(document.getElementById("where").textContent.split(",")[0]);
    document.title = found.join("|");
    </script></body>"""
    page = tmp_path / "probe.html"
    page.write_text((answered[0] / "report.html").read_text().replace("</body>", probe))
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = browser(profile, "--enable-logging=stderr", "--v=0", "--dump-dom", page.as_uri())
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    title = re.search(r"<title>(.*?)</title>", done.stdout)[1].split("|")
    last = len(answered[1]["slices"]) - 1
    assert title == [
        "attention-positive_exam_for_pe",
        "attention-leftsided_pe",
        f"Slice {last}",
    ]
