"""The reader's screen in a real browser."""

import cv2
import numpy as np
import pytest
from screen import NEEDS_CHROMIUM, READY, enter, only_study
from serving import serving

from pe_unified.benchmarks.chromium import CTRL
from pe_unified.reports.mask_file import read_mask
from pe_unified.review.store import Decision

pytestmark = NEEDS_CHROMIUM


def seen(page, tmp_path):
    """RGB of the screen, int (rows, cols, 3); what was asked for is drawn."""
    page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.screenshot(tmp_path / "seen.png")
    return cv2.imread(str(tmp_path / "seen.png"))[..., ::-1].astype(int)


def place_of(page, row, col, spacing, canvas="axial", size=64):
    """Where the middle of a pixel lies on the screen: the slice fills the canvas, centred."""
    box = page.run(
        f"(b => [b.x, b.y, b.width, b.height])"
        f"(document.getElementById('{canvas}').getBoundingClientRect())"
    )
    high, wide = size * spacing["row"], size * spacing["col"]
    scale = min(box[2] / wide, box[3] / high)
    x = box[0] + box[2] / 2 + ((col + 0.5) * spacing["col"] - wide / 2) * scale
    y = box[1] + box[3] / 2 + ((row + 0.5) * spacing["row"] - high / 2) * scale
    return x, y


def colours_at(page, tmp_path, pixels, spacing):
    screen = seen(page, tmp_path)
    places = [place_of(page, row, col, spacing) for row, col in pixels]
    return np.array([screen[int(y), int(x)] for x, y in places])


def test_marked_pixels_lie_where_the_mask_says(page, served, reports, report, tmp_path):
    mask = read_mask(reports / "PAT001" / "mask.nii.gz", report[1])
    slice_ = int(np.argmax((mask > 0).sum((1, 2))))
    enter(page, served.url)
    page.run("scene.showBoxes = scene.showCrosshair = false; scene.marksChanged()")
    page.run(f"scene.setWindow(0, 4000); scene.at = {{slice: {slice_}, row: 5, col: 5}}")
    page.run("scene.touch()")
    marked = np.argwhere(mask[slice_] > 0)
    near = cv2.dilate((mask[slice_] > 0).astype(np.uint8), np.ones((5, 5)))
    clear = np.argwhere((near == 0) & (np.add.outer(np.arange(64), np.arange(64)) % 7 == 0))
    clear = clear[(clear[:, 0] > 10) & (clear[:, 0] < 54) & (clear[:, 1] > 5) & (clear[:, 1] < 59)]
    spacing = report[1]["input"]["spacing_mm"]
    on = colours_at(page, tmp_path, marked, spacing)
    off = colours_at(page, tmp_path, clear, spacing)
    assert len(marked) > 3 and len(clear) > 50
    assert (on[:, 0] - on[:, 2] > 20).all(), "orange"
    assert (np.ptp(off, axis=1) < 4).all(), "grey"
    page.press("v")
    assert (np.ptp(colours_at(page, tmp_path, marked, spacing), axis=1) < 4).all()
    assert page.errors == []


@pytest.mark.slow
def test_a_whole_session(page, served, reports, report, tmp_path):
    spacing = report[1]["input"]["spacing_mm"]
    store, study = only_study(reports)
    enter(page, served.url)
    first = page.run("scene.at.slice")
    x, y = page.middle_of("#axial")
    page.wheel(x, y, -100)
    page.wait_for(f"scene.at.slice === {min(15, first + 1)}")
    page.press("PageDown")
    page.wait_for(f"scene.at.slice === {max(0, min(15, first + 1) - 10)}")
    # Windows, by key and by drag.
    page.press("3")
    lung = page.run("scene.window")
    page.drag((x, y), (x + 30, y), (x + 60, y - 20), button="right")
    level, width = page.run("scene.window")
    assert width > lung[1] and level > lung[0]
    # A distance between two pixels, in mm.
    page.press("k")
    ends = [place_of(page, 20, col, spacing) for col in (20, 40)]
    page.drag(*ends)
    measured = page.run("scene.measures.map(m => (m.to[0] - m.from[0]) * scene.views[0].plane.uMm)")
    assert measured == [pytest.approx(20 * spacing["col"], abs=0.2)]
    # Accept a lesion, label another, reject it, and take that back.
    page.press("t")
    page.click("[data-lesion='1']")
    page.press("a")
    page.wait_for("scene.decided.verdicts.get(1) === 'accept'")
    page.click("[data-lesion='2']")
    page.press("r")
    page.wait_for("scene.decided.verdicts.get(2) === 'reject'")
    page.press("u")
    page.wait_for("!scene.decided.verdicts.has(2)")
    page.run("document.getElementById('label').value = 'chronic'")
    page.run("document.getElementById('label').dispatchEvent(new Event('change'))")
    page.wait_for("scene.decided.labels.get(2) === 'chronic'")
    page.press("c")
    page.type("motion <b>here</b>")
    page.press("Enter", CTRL)
    page.wait_for("document.querySelector('#comments li')?.textContent.includes('<b>here</b>')")
    page.run("document.activeElement.blur()")
    # Redraw the first lesion: one stroke stays, one is taken back.
    page.click("[data-lesion='1']")
    slice_ = page.run("scene.at.slice")
    before = read_mask(reports / "PAT001" / "mask.nii.gz", report[1]) == 1
    page.press("b")
    page.run("scene.drawing.radius = 1.2")
    drawn = [(50, 20), (50, 26)]
    page.drag(*(place_of(page, row, col, spacing) for row, col in drawn))
    page.drag(place_of(page, 12, 12, spacing), place_of(page, 12, 16, spacing))
    page.press("z", CTRL)
    page.press("Enter")
    page.wait_for("!scene.drawing.isOpen && scene.decided.verdicts.get(1) === 'redraw'")
    (redraw,) = [each for each in store.current(study, "Ada") if each.kind == "redraw"]
    after = store.load_mask(study, redraw.value["mask"])
    changed = np.argwhere(after != before)
    assert set(changed[:, 0]) == {slice_} and after[slice_, 50, 20:27].all()
    assert set(changed[:, 1]) <= {49, 50, 51} and not after[slice_, 12, 12:17].any()
    # A new lesion, as a box.
    page.press("x")
    page.click("#add")
    page.drag(place_of(page, 30, 10, spacing), place_of(page, 36, 20, spacing))
    page.press("Enter")
    page.wait_for("scene.decided.added.length === 1")
    (added,) = [each for each in store.current(study, "Ada") if each.kind == "add"]
    bx, by, bw, bh = added.value["box"]
    assert (bx, by) == pytest.approx((10.5, 30.5), abs=1)
    assert (bw, bh) == pytest.approx((10, 6), abs=1)
    # Called lesions without a verdict are asked about before the study is done.
    page.run(
        "scene.asked = []; window.confirm = (words) => { scene.asked.push(words); return false; }"
    )
    page.press("f")
    page.wait_for("scene.asked.length === 1 && scene.selected.number > 1")
    assert store.states("Ada") == {study: "in work"}
    page.run("window.confirm = () => true")
    page.press("f")
    page.wait_for("scene.decided.done")
    assert store.states("Ada") == {study: "done"}
    store.add(Decision(study, "Ada", "comment", None, {"text": "later"}, added.model))
    # What was kept is there when the page is opened anew; a comment does not open the study again.
    page.reload()
    page.wait_for(f"{READY} && scene.lesions[0].redrawn")
    page.run(f"scene.at = {{slice: {slice_}, row: 1, col: 1}}")
    page.run("scene.showCrosshair = scene.showBoxes = false; scene.marksChanged()")
    on = colours_at(page, tmp_path, [(50, col) for col in range(20, 27)], spacing)
    assert (on[:, 1] - on[:, 0] > 8).all(), "green"
    assert page.run("scene.decided.added.length") == 1
    assert page.run("document.getElementById('done').getAttribute('aria-pressed')") == "true"
    assert page.errors == []


@pytest.mark.slow
def test_slices_go_on_coming_when_the_server_answers_again(page, served):
    enter(page, served.url)
    page.run(
        "window.fetched = window.fetch; window.fetch = () => Promise.reject(new TypeError('x'))"
    )
    page.run("scene.volume.asked.fill(0); scene.volume.loaded.fill(0); scene.volume.want(3)")
    page.wait_for("scene.trouble.includes('does not answer')")
    page.run("window.fetch = window.fetched; scene.volume.want(4)")
    page.wait_for("!scene.volume.missing && !scene.trouble")


@pytest.mark.slow
def test_an_unchanged_list_is_known_to_be_current(page, served):
    """Once the server answers again; and ages go on."""
    enter(page, served.url)
    page.open(served.url)
    page.wait_for("document.querySelector('#rows a')")
    page.run(
        "window.fetched = window.fetch; window.fetch = () => Promise.reject(new TypeError('x'))"
    )
    page.wait_for("document.getElementById('news').textContent.includes('may be old')")
    page.run("window.then = Date.now() + 5 * 86400000; Date.now = () => window.then")
    page.run("window.fetch = window.fetched")
    page.wait_for("document.getElementById('news').hidden")
    assert page.run("document.querySelector('#rows').textContent.includes('5 d')")


@pytest.mark.slow
def test_the_keyboard_is_enough_and_large_text_fits(page, served):
    enter(page, served.url)
    page.open(f"{served.url}/")
    page.wait_for("document.querySelector('#rows a')")
    page.press("ArrowDown")
    page.press("Enter")
    page.wait_for(READY)
    page.press("n")
    page.press("a")
    page.wait_for("scene.decided.verdicts.size === 1")
    reached = set()
    for _ in range(60):
        page.press("Tab")
        now = "document.activeElement.id || document.activeElement.textContent.trim()"
        reached.add(page.run(now))
    wanted = {"back", "Accept", "Reject", "label", "done", "undo", "next", "text", "axial", "Brush"}
    assert wanted <= reached
    page.press("q")
    page.wait_for("location.pathname === '/'")
    for path in ("/", f"/read/{served.key}"):
        page.open(f"{served.url}{path}")
        for width in (400, 650, 800):  # 800: a screen of 1600 with text twice as large
            page.resize(width, 450)
            page.run("new Promise(done => setTimeout(done, 100))")
            assert page.run("document.documentElement.scrollWidth") <= width
    page.resize(1300, 800)


@pytest.mark.slow
def test_a_study_without_images_still_tells_its_findings(page, reports, report):
    with serving(reports) as url:
        page.open(url)
        page.run("localStorage.setItem('pe-unified-reader', 'Ada')")
        page.reload()
        page.wait_for("document.querySelector('#rows a')")
        page.click("#rows a")
        page.wait_for("document.getElementById('warning').textContent.startsWith('No images')")
        assert page.run("document.querySelectorAll('.lesion').length") == len(report[1]["lesions"])
        assert page.run("scene.views.map(view => view.plane.letters).flat().join('')") == "?" * 12
        page.run("scene.volume.fetch = () => { scene.asked = true; }")
        page.press("Home")
        page.press("PageUp")
        assert page.run("!scene.asked")
        page.press("a")
        page.wait_for("scene.decided.verdicts.size === 1")


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour / 255.0]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_every_text_stands_off_its_ground(page, served, theme):
    """WCAG AA: a contrast of 4.5, of whatever text is shown and can be used."""
    enter(page, served.url)
    code = """[...document.querySelectorAll('body *')].filter(e => e.offsetParent && !e.disabled
      && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).map(e => {
        let ground = e;
        const clear = g => getComputedStyle(g).backgroundColor === 'rgba(0, 0, 0, 0)';
        while (clear(ground)) ground = ground.parentElement;
        return [e.textContent.trim().slice(0, 30), getComputedStyle(e).color,
          getComputedStyle(ground).backgroundColor]; })"""
    found = []
    for path in (f"/read/{served.key}", "/"):
        page.open(f"{served.url}{path}")
        page.wait_for("document.querySelector('.lesion, #rows a')")
        page.run(f"document.documentElement.dataset.theme = '{theme}'")
        found += page.run(code)
    assert len(found) > 40
    for text, *colours in found:
        one, other = (
            luminance(np.array([int(n) for n in c[c.index("(") + 1 : -1].split(",")[:3]]))
            for c in colours
        )
        contrast = (max(one, other) + 0.05) / (min(one, other) + 0.05)
        assert contrast >= 4.5, (text, colours)
