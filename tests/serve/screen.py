"""The reader's screen in a real browser, for tests."""

from pathlib import Path

import pytest

from pe_unified.benchmarks.chromium import CHROMIUM, Chromium
from pe_unified.review.store import ReviewStore

NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
#: Whether everything has been loaded.
READY = "window.scene && scene.volume && !scene.volume.missing && scene.lesions.some(l => l.mask)"


def enter(page: Chromium, url: str, reader: str = "Ada") -> None:
    """The page of the only study, by the worklist."""
    page.errors.clear()
    page.open(url)
    page.run(f"localStorage.setItem('pe-unified-reader', '{reader}')")
    page.reload()
    page.wait_for("document.querySelector('#rows a')")
    page.click("#rows a")
    page.wait_for(READY)


def only_study(reports: Path) -> tuple[ReviewStore, str]:
    """The store of decisions of a folder with one report, and the study's name."""
    store = ReviewStore(reports)
    (study,) = store.states()
    return store, study
