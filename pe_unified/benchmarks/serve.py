"""The reader's screen against the aims for worklist, first slice and scrolling, in a browser.

A headless Chromium without a GPU shows the server's pages, both on this machine. The study is
synthetic by default, and its lesions are made up. The reference of each row is the aim: 1 s, 2 s,
and 20 pictures a second.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.benchmarks.chromium import Chromium
from pe_unified.benchmarks.exam_study import untrained_pair
from pe_unified.benchmarks.studies import lengthened, painted
from pe_unified.ct.opening import open_study
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.progress import phase
from pe_unified.reports.analysis import analyse_study
from pe_unified.reports.file_names import MASK, REPORT
from pe_unified.reports.mask_file import write_mask
from pe_unified.serve.app import ServeOptions, make_app
from pe_unified.serve.images import ImageCache
from pe_unified.serve.server import running

_LIST_S, _FIRST_S, _PER_SECOND = 1.0, 2.0, 20.0
_LESIONS, _RADIUS = 6, 12
#: Slices that are painted; longer studies repeat them.
_PAINTED = 100
#: Turns the wheel by a slice before each picture, as fast as possible; gives pictures a second.
_SCROLL = """(async () => {
  const canvas = document.getElementById("axial");
  const turns = 300;
  const start = performance.now();
  for (let turn = 0; turn < turns; turn += 1) {
    const deltaY = Math.floor(turn / 100) % 2 ? -100 : 100;
    canvas.dispatchEvent(new WheelEvent("wheel", { deltaY, bubbles: true, cancelable: true }));
    await new Promise(requestAnimationFrame);
    scene.views[0].ctx.getImageData(0, 0, 1, 1);
  }
  return turns / ((performance.now() - start) / 1000);
})()"""


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with phase("painting a study"):
            study = (args.study or _study(folder, args.slices)).resolve()
        reports = folder / "reports"
        with phase("writing reports"):
            shape = write_reports(reports, study, args.studies, folder, args.input_size)
        measured = measure(reports, study, args.repeats)
    size = f"{shape[0]} slices of {shape[1]} x {shape[2]}"
    return [
        {
            "case": f"worklist of {args.studies} studies: asked for until shown / aim",
            "ours": measured["rows"],
            "reference": _LIST_S,
            "unit": "s",
        },
        {
            "case": f"{size}: page asked for until the first slice is shown, study not opened "
            "before / aim",
            "ours": measured["first slice"],
            "reference": _FIRST_S,
            "unit": "s",
        },
        {
            "case": f"{size}: scrolling all three planes with masks / aim",
            "ours": 1 / measured["pictures"],
            "reference": 1 / _PER_SECOND,
            "unit": "s per picture",
        },
    ]


def measure(reports: Path, study: Path, repeats: int) -> dict[str, float]:
    """Median seconds until worklist, first and all slices are shown, and pictures a second.

    The latter are measured while scrolling. Each repeat has its own, new server.
    """
    found: list[dict[str, float]] = []
    for _ in range(repeats):
        options = ServeOptions(reports, (study.parent,))
        with (
            ImageCache() as images,
            running(make_app(options, images)) as url,
            Chromium() as page,
        ):
            page.open(url)
            page.run("localStorage.setItem('pe-unified-reader', 'benchmark')")
            page.reload()
            times = {"rows": _mark(page, "rows")}
            # By score, not by row: only one report is of the study that exists.
            key = page.run("""fetch("/api/worklist").then(r => r.json())
                .then(r => r.studies.reduce((a, b) => a.score > b.score ? a : b).key)""")
            page.open(f"{url}/read/{key}")
            times |= {name: _mark(page, name) for name in ("first slice", "all slices")}
            page.wait_for("scene.lesions.some(lesion => lesion.mask)", 60)
            times["pictures"] = page.run(_SCROLL)
            found.append(times)
            told = ", ".join(f"{name} {value:.2f}" for name, value in times.items())
            print(f"{told} (s; pictures a second)")
    return {name: float(np.median([each[name] for each in found])) for name in found[0]}


def _mark(page: Chromium, name: str) -> float:
    """Seconds from the start of the page until it set a mark."""
    page.wait_for(f"performance.getEntriesByName('{name}').length", 120)
    return page.run(f"performance.getEntriesByName('{name}')[0].startTime") / 1000


def _study(folder: Path, slices: int) -> Path:
    study = painted(folder, min(slices, _PAINTED))
    return study if slices <= _PAINTED else lengthened(study, folder / "long", slices)


def write_reports(
    root: Path, study: Path, count: int, scratch: Path, input_size: int
) -> tuple[int, int, int]:
    """Write ``count`` reports of one study under different names and UIDs; returns its shape.

    The first, which has its UIDs and the highest score, is in a folder with the study's name.
    """
    checkpoint, _ = untrained_pair(scratch, input_size)
    predictor = StudyPredictor(load_model(checkpoint, device="cpu"))
    own = root / study.name
    report = analyse_study(study, own, predictor)
    with open_study(study) as opened:
        shape = opened.shape
        _add_lesions(report, shape)
        write_mask(own / MASK, opened, _balls(report["lesions"], shape))
    report["exam"] |= {"probability": 1.0, "lesion_score": None}
    (own / REPORT).write_text(json.dumps(report), "utf-8")
    rng = np.random.default_rng(0)
    for number in range(1, count):
        report["input"]["study_uid"] = f"2.25.{number}"
        report["exam"]["probability"] = round(float(rng.uniform(0, 0.99)), 4)
        (root / f"copy{number}").mkdir()
        (root / f"copy{number}" / REPORT).write_text(json.dumps(report), "utf-8")
    return shape


def _add_lesions(report: dict[str, Any], shape: tuple[int, int, int]) -> None:
    """Replace the findings of an untrained model by balls along the body."""
    report["lesions"] = []
    for number in range(1, _LESIONS + 1):
        slice_ = number * shape[0] // (_LESIONS + 1)
        row, col = shape[1] // 2, number * shape[2] // (_LESIONS + 1)
        box = [col - _RADIUS, row - _RADIUS, col + _RADIUS, row + _RADIUS]
        report["lesions"].append(
            {
                "number": number,
                "called": True,
                "score": 0.9,
                "first_slice": max(0, slice_ - _RADIUS),
                "last_slice": min(shape[0] - 1, slice_ + _RADIUS),
                "key_slice": slice_,
                "box": box,
                "side": "left",
                "level_guess": "central",
                "volume_ml": 1.0,
                "largest_diameter_mm": 15.0,
                "mean_hu": 50.0,
            }
        )


def _balls(
    lesions: list[dict[str, Any]], shape: tuple[int, int, int]
) -> dict[int, dict[int, np.ndarray]]:
    """By lesion and by slice, the indices of its pixels."""
    rows, cols = np.indices(shape[1:])
    pixels: dict[int, dict[int, np.ndarray]] = {}
    for lesion in lesions:
        x0, y0, x1, y1 = lesion["box"]
        away = (rows - (y0 + y1) / 2) ** 2 + (cols - (x0 + x1) / 2) ** 2
        pixels[lesion["number"]] = {
            index: np.flatnonzero(away + (index - lesion["key_slice"]) ** 2 <= _RADIUS**2)
            for index in range(lesion["first_slice"], lesion["last_slice"] + 1)
        }
    return pixels
