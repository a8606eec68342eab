"""Decisions and drawings on the reader's screen, in a real browser."""

import json

import pytest
from screen import NEEDS_CHROMIUM, enter, only_study
from serving import OWN, ask

from pe_unified.benchmarks.chromium import CTRL

pytestmark = NEEDS_CHROMIUM


@pytest.mark.slow
def test_who_came_too_late_is_told(page, served, reports):
    """Another reader decides while the page is open."""
    store, study = only_study(reports)
    enter(page, served.url)
    report = ask(served.url, served.study).json
    said = {"reader": "Bela", "seen": 0, "kind": "reject", "lesion": 1}
    said |= {"model": report["model"]["sha256"]}
    path = f"{served.study}/decisions"
    assert ask(served.url, path, "POST", json.dumps(said), **OWN).status == 200
    page.click("[data-lesion='1']")
    page.press("a")
    page.wait_for("document.getElementById('news').textContent.includes('Bela has decided')")
    assert [each.reader for each in store.history(study)] == ["Bela"]
    page.wait_for("document.querySelector('.other')?.textContent === 'Bela: rejected'")
    page.press("a")
    page.wait_for("scene.decided.verdicts.get(1) === 'accept'")
    assert [each.reader for each in store.history(study)] == ["Bela", "Ada"]


@pytest.mark.slow
def test_what_another_reader_said_is_told_and_led_to(page, served, reports):
    """Verdicts on lesions and on the study, and lesions that only the other one drew."""
    page.resize(1366, 768)
    report = ask(served.url, served.study).json
    path, about = f"{served.study}/decisions", {"reader": "Bela", "seen": 0}
    about |= {"model": report["model"]["sha256"]}
    runs = {"9": [64 * 40 + 10, 5, 1, 64 * 41 + 10, 5, 1]}
    for said in (
        {"kind": "accept", "lesion": 1},
        {"kind": "add", "runs": runs},
        {"kind": "relabel", "value": {"label": "positive"}},
        {"kind": "done"},
    ):
        assert ask(served.url, path, "POST", json.dumps(about | said), **OWN).status == 200
    enter(page, served.url)
    told = "[...document.querySelectorAll('.other')].map(e => e.textContent)"
    assert page.run(told) == ["Bela: accepted", "Bela: mask", "Bela: positive, done"]
    row = "document.querySelector('.added .lesion')"
    page.wait_for(f"{row}.textContent.includes('slice 9')")
    page.click(".added .lesion")
    page.wait_for("scene.at.slice === 9 && scene.compared === 'Bela' && scene.comparison[0].mask")
    assert page.run("document.getElementById('about').textContent") == "Lesion of Bela"
    assert page.run("document.querySelector('.added').children.length") == 1, "not ours to remove"
    # On a small screen the verdict is in sight, however long the list of lesions is.
    page.run("document.getElementById('lesions').style.minHeight = '2000px'")
    foot = "document.querySelector('[data-verdict]').getBoundingClientRect().bottom"
    page.run("document.querySelector('aside').scrollTop = 0")
    assert page.run(foot) < page.run(
        "document.querySelector('aside').getBoundingClientRect().bottom"
    )
    page.resize(1300, 800)
    assert page.errors == []


@pytest.mark.slow
def test_decisions_are_made_one_by_one(page, served, reports):
    """A key that is held decides once; what is undone twice at once is two decisions."""
    store, study = only_study(reports)
    enter(page, served.url)
    page.click("[data-lesion='1']")
    held = "for (let i = 0; i < 9; i += 1) document.body.dispatchEvent(new KeyboardEvent('keydown',"
    page.run(f"{held} {{key: 'r', bubbles: true, repeat: i > 0}}))")
    page.wait_for("scene.decided.verdicts.get(1) === 'reject'")
    page.press("a")
    page.press("u")
    page.press("u")
    page.wait_for("!scene.decided.verdicts.size")
    history = [(each.kind, each.value.get("of")) for each in store.history(study)]
    assert history == [("reject", None), ("accept", None), ("undo", 2), ("undo", 1)]


@pytest.mark.slow
def test_keys_are_known_by_their_place_on_other_keyboards(page, served):
    enter(page, served.url)
    page.click("[data-lesion='1']")
    pressed = "document.body.dispatchEvent(new KeyboardEvent('keydown', {bubbles: true, "
    page.run(f"{pressed} key: 'ф', code: 'KeyA'}}))")
    page.wait_for("scene.decided.verdicts.get(1) === 'accept'")
    page.run(
        "scene.left = []; window.fetch = async (to) => {"
        " scene.left.push(to); throw new TypeError('x'); }; null"
    )
    page.run(f"{pressed} key: ']', code: 'Digit9', altKey: true, ctrlKey: true}}))")
    page.wait_for("scene.left.length === 1 && scene.left[0].startsWith('/api/worklist')")


@pytest.mark.slow
def test_a_drawing_waits_for_the_mask_that_it_changes(page, served, reports):
    enter(page, served.url)
    page.run("scene.awaited = new Promise(() => {}); scene.was = scene.lesions[0].mask")
    page.run("scene.lesions[0].mask = null")
    page.click("[data-lesion='1']")
    page.press("b")
    x, y = page.middle_of("#axial")
    page.drag((x, y), (x + 20, y))
    assert not page.run("scene.drawing.isOpen")
    assert "not come yet" in page.run("document.getElementById('news').textContent")
    page.run("scene.awaited = null; scene.lesions[0].mask = scene.was")
    page.drag((x, y), (x + 20, y))
    assert page.run("scene.drawing.isOpen")
    page.press("z", CTRL)


SLOWLY = """const known = window.fetch; window.fetch = async (...asked) => {
  await new Promise((done) => setTimeout(done, 400)); return known(...asked); }; null"""


@pytest.mark.slow
def test_what_is_not_answered_yet_is_not_lost(page, served, reports):
    """Neither by leaving the page, nor by going on with a drawing that is being saved."""
    store, study = only_study(reports)
    enter(page, served.url)
    x, y = page.middle_of("#axial")
    page.click("[data-lesion='1']")
    # Strokes and boxes are taken back in their order.
    page.press("x")
    page.drag((x - 30, y - 30), (x + 30, y), (x + 30, y + 30))
    box = page.run("scene.drawing.box")
    page.press("b")
    page.drag((x, y), (x + 20, y))
    assert box and page.run("scene.drawing.box") is None
    page.press("z", CTRL)
    assert page.run("scene.drawing.box") == box
    page.press("z", CTRL)
    assert not page.run("scene.drawing.hasChanges")
    page.drag((x, y), (x + 20, y))
    runs = page.run("scene.drawing.decision().runs")
    page.run(SLOWLY)
    page.press("Enter")
    page.drag((x, y + 60), (x + 20, y + 60))
    page.press("w")
    assert page.run("scene.drawing.decision().runs") == runs
    assert "is being saved" in page.run("document.getElementById('news').textContent")
    page.wait_for("!scene.drawing.isOpen")
    page.run("window.confirm = () => true")
    for key in "rfq":
        page.press(key)
    page.wait_for("document.querySelector('#rows a')")
    assert [each.kind for each in store.history(study)] == ["redraw", "reject", "done"]


@pytest.mark.slow
def test_a_name_that_is_asked_for_late_costs_no_decision(page, served, reports):
    store, study = only_study(reports)
    enter(page, served.url)
    page.run("localStorage.clear(); scene.reader = ''")
    page.click("[data-lesion='1']")
    page.press("a")
    page.wait_for("document.querySelector('dialog[open]')")
    page.type("Bela")
    page.press("Enter")
    page.wait_for("scene.decided.verdicts.get(1) === 'accept'")
    (kept,) = store.history(study)
    assert (kept.reader, kept.kind) == ("Bela", "accept")
