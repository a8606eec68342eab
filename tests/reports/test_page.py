"""The page in a real browser."""

import copy
import html
import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest
from dicom_files import write_hu
from studies import write_checkpoint

from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.reports.analysis import analyse_study
from pe_unified.reports.page import _MOST_SLICES, _outline, _shown, render_page

pytestmark = pytest.mark.usefixtures("without_dicom")

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def page(report):
    out, found = report
    return out / "report.html", found


def browser(*arguments):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_nothing_is_loaded_from_elsewhere(page):
    text = page[0].read_text()
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("Research software, not a medical device") == 1
    assert not re.search(r"{[{%#]|[#%}]}", text.split("<body>")[1].split("<script")[0])


def test_its_data_are_those_of_the_report(page):
    path, report = page
    data = json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(), re.S)[1])
    assert [each["index"] for each in data["slices"]] == list(range(16))
    assert [each["probability"] for each in data["slices"]] == [
        each["probability"] for each in report["slices"]
    ]
    marked = [each["index"] for each in data["slices"] if 'class="mask"' in each["marks"]]
    assert any('class="mask candidate"' in each["marks"] for each in data["slices"])
    assert marked == [each["index"] for each in report["slices"] if each["embolus_pixels"]]


def test_no_rounding_contradicts_the_verdict(report):
    """Right below the threshold, and right beyond what a clot may measure."""
    found = copy.deepcopy(report[1])
    found["exam"] |= {"probability": 0.7598, "lesion_score": 0.5799, "positive": False}
    found["exam"] |= {"threshold": 0.76, "lesion_threshold": 0.58, "stretches": []}
    lesion = {"called": False, "score": 0.5799, "can_be_clot": True, "mean_hu": 40.0}
    other = {"called": False, "score": 0.98, "can_be_clot": False, "mean_hu": -50.4}
    found["lesions"] = [found["lesions"][0] | each for each in (lesion, other)]
    text = render_page(found, slices=[], keys=[], first=0, left_side="right")
    answer = re.search(r'<section class="answer">(.*?)</section>', text, re.S)[1]
    assert re.findall(r"0\.\d+", answer) == ["0.7598", "0.7600", "0.5799", "0.5800"]
    assert "called negative: nothing is called" in answer
    assert "a stretch is called from 0.7600<" in text
    assert "<td>0.5799</td>" in text and "score below 0.5800" in text
    assert "<td>-50.4</td>" in text


@pytest.mark.parametrize("head", ["cls", "seg"])
def test_what_the_model_does_not_do_is_not_nothing(folder, tmp_path, head):
    checkpoint = write_checkpoint(tmp_path / "m.pth", heads=(head,))
    predictor = StudyPredictor(load_model(checkpoint, device="cpu", precision="fp32"))
    report = analyse_study(folder, tmp_path / "out", predictor)
    text = (tmp_path / "out/report.html").read_text("utf-8")
    assert ("The model does not look for lesions" in text) == (head == "cls")
    assert ("lesions</div>" in text) == (head == "seg")
    assert ("The model does not classify slices" in text) == (head == "seg")
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    fixed = re.search(r"<dt>thresholds</dt><dd>(.*?)</dd>", text)[1]
    assert ("pixel" in fixed) == (head == "seg") and "box" not in fixed
    looked_at = [each["examined"] for each in data["slices"]]
    assert head == "cls" or any(looked_at)
    # No mask where nothing is outlined, and the page begins with the peak.
    assert (tmp_path / "out/mask.nii.gz").exists() == (head == "seg")
    assert ("no mask.nii.gz: the model does not outline lesions" in text) == (head == "cls")
    if head == "cls":
        peak = max(report["slices"], key=lambda each: each["probability"] or 0)
        assert data["first"] == peak["index"]


def test_the_side_of_the_picture_is_said_as_it_is(page, predictor, tmp_path):
    assert "The patient's right is on the left of the picture." in page[0].read_text()
    hu = np.random.default_rng(0).normal(0, 300, (64, 64)).astype(np.int16)
    for k in range(9):
        write_hu(tmp_path / "ct" / f"{k}", hu, z=k, ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    report = analyse_study(tmp_path / "ct", tmp_path / "out", predictor)
    assert "prone" in [flag["name"] for flag in report["quality"]["flags"]]
    text = (tmp_path / "out" / "report.html").read_text()
    assert "The patient's left is on the left of the picture." in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_browser_shows_it_and_runs_without_an_error(page, tmp_path):
    path, report = page
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = browser(profile, "--enable-logging=stderr", "--v=0", "--dump-dom", path.as_uri())
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    first = report["lesions"][0]["key_slice"]
    assert f'<b id="where">Slice {first}, z = ' in done.stdout
    assert re.search(r'id="slice"[^>]*src="data:image/jpeg', done.stdout)
    assert done.stdout.count('class="jump"') == len(report["lesions"])
    browser(profile, f"--screenshot={tmp_path}/page.png", "--window-size=1100,1600", path.as_uri())
    picture = cv2.imread(str(tmp_path / "page.png"))
    assert picture.shape[:2] == (1600, 1100) and picture.std() > 20


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_keys_marks_and_lesions_move_the_scroller(page, tmp_path):
    """The page's own script, driven by events."""
    path, report = page
    keys = [lesion["key_slice"] for lesion in report["lesions"]]
    first = max(keys)
    probe = """<script>
    document.querySelectorAll("tr.jump")[LESION].click();
    document.activeElement.blur();
    const seen = [];
    const viewer = document.getElementById("picture");
    const note = () => seen.push(document.getElementById("where").textContent.split(",")[0]);
    const press = (where, key) => {
      const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
      where.dispatchEvent(event); note();
      return event.defaultPrevented;
    };
    const turn = () => {
      const event = new WheelEvent("wheel", { deltaY: 1, bubbles: true, cancelable: true });
      viewer.dispatchEvent(event); note();
      return event.defaultPrevented;
    };
    // The page scrolls by them until the viewer is clicked.
    const scrolls = [press(document.body, "PageDown"), press(document.body, "ArrowUp"), turn()];
    viewer.focus();
    scrolls.push(press(viewer, "PageDown"), press(viewer, "PageDown"), press(viewer, "ArrowUp"));
    scrolls.push(turn(), press(viewer, "Home"));
    seen.push(scrolls.map(Number).join(""));
    document.querySelectorAll("tr.jump")[LESION].querySelector("button").click(); note();
    const box = document.getElementById("labels");
    box.checked = false; box.dispatchEvent(new Event("change"));
    seen.push(document.getElementById("scroller").className);
    document.title = seen.join("|");
    </script></body>"""
    copy = tmp_path / "probe.html"
    probe = probe.replace("LESION", str(keys.index(first)))
    copy.write_text(path.read_text().replace("</body>", probe))
    done = browser(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", copy.as_uri())
    title = html.unescape(re.search(r"<title>(.*?)</title>", done.stdout)[1]).split("|")
    once, twice = max(first - 10, 0), max(first - 20, 0)
    assert title[:3] == [f"Slice {first}"] * 3 and once < first
    moved = (once, twice, twice + 1, twice + 2, twice + 2)
    assert title[3:8] == [f"Slice {index}" for index in moved]
    assert title[8:] == ["00011110", f"Slice {first}", "scroller hide-labels"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("width", [400, pytest.param(1280, marks=pytest.mark.slow)])
def test_no_screen_is_too_narrow(page, tmp_path, width):
    """What is wide scrolls in itself, not the page."""
    text = page[0].read_text("utf-8").replace("<details>", "<details open>")
    # A window cannot be that narrow everywhere; a frame can.
    frame, style = tmp_path / "frame.html", f"width:{width}px;height:900px;border:0"
    frame.write_text(
        f'<iframe id="f" style="{style}" srcdoc="{html.escape(text)}"></iframe>'
        """<script>const f = document.getElementById("f"); f.onload = () => {
        const root = f.contentDocument.documentElement;
        document.title = f.contentWindow.innerWidth + "|" + root.scrollWidth; };</script>""",
        "utf-8",
    )
    done = browser(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri())
    inner, scrolled = map(int, re.search(r"<title>(\d+)\|(\d+)", done.stdout).groups())
    assert inner == width and scrolled <= inner


def test_outlines_follow_the_pixels_borders():
    pixels = np.array([2 * 10 + 3, 2 * 10 + 4])  # two pixels side by side in a slice of 10 columns
    numbers = [float(n) for n in re.findall(r"-?\d+\.\d", _outline(pixels, 10))]
    xs, ys = numbers[::2], numbers[1::2]
    assert (min(xs), max(xs)) == pytest.approx((3.0, 5.0), abs=0.35)
    assert (min(ys), max(ys)) == pytest.approx((2.0, 3.0), abs=0.35)


def test_long_studies_are_thinned_but_keep_their_key_slices():
    class Key:
        def __init__(self, key_slice):
            self.key_slice = key_slice

    shown = _shown(3000, [Key(1234), Key(7)], 2001)
    assert len(shown) <= _MOST_SLICES + 3 and {0, 7, 1234, 2001} <= set(shown)
    assert _shown(300, [], 0) == list(range(300))


def test_the_card_of_the_model_is_told_in_short(report):
    found = copy.deepcopy(report[1])
    assert "<dt>card</dt>" not in render_page(found, [], keys=[], first=0, left_side="right")
    found["model"]["card"] = {"name": "mine", "summary": "Slice AUC 0.8 on 9 patients."}
    text = render_page(found, [], keys=[], first=0, left_side="right")
    assert "<dt>card</dt><dd>mine: Slice AUC 0.8 on 9 patients.</dd>" in text


def test_texts_cannot_break_out(report):
    """Markup in a UID, a note, a reason or a name stays text."""
    found = copy.deepcopy(report[1])
    hostile = "</script><script>alert(1)</script>"
    flag = {"reason": hostile, "value": 1.5, "limit": 1, "unit": hostile, "abstain": True}
    found["quality"] = {"flags": [flag], "abstain": True}
    found["input"] |= {"study_uid": hostile, "series_uid": hostile, "notes": [hostile]}
    card = {"name": hostile, "summary": hostile}
    found["model"] |= {"checkpoint": hostile, "training_notice": hostile, "card": card}
    entry = {"index": 0, "z": 0.0, "probability": None, "examined": True, "jpeg": hostile}
    slices = [entry | {"marks": hostile}]
    text = render_page(found, slices, keys=[], first=0, left_side="right")
    assert "alert(1)" in text and "<script>alert" not in text and text.count("</script>") == 2
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert data["slices"] == slices
