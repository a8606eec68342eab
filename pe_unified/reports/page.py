"""The report as a single page that needs only a browser: curve, lesions, slices."""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup

from pe_unified.ct.windows import WINDOWS, window_to_uint8
from pe_unified.disclaimer import by_set
from pe_unified.evaluation.verdict import DIGITS, score_text
from pe_unified.inference.lesions import Box, Lesion
from pe_unified.inference.reading import SliceReader
from pe_unified.reports.exam_block import WORDS, disagreement, exam_call_in_words, percent
from pe_unified.reports.exam_view import attention_of, in_plain_words, questions
from pe_unified.reports.measurements import obstruction_in_words, ratio_in_words
from pe_unified.reports.report import (
    is_listed,
    looks_for_lesions,
    reading_in_words,
    span_in_words,
    verdict_in_words,
)
from pe_unified.tasks import look_for_lesions
from pe_unified.templates import render

#: The window of all images.
WINDOW = "pe"
#: Longer side of an image in the scroller, pixels, and its JPEG quality.
_SIDE, _QUALITY = 384, 70
#: Maximum number of slices in the scroller; longer studies are thinned.
_MOST_SLICES = 400
#: Number of lesions with their own image.
_KEY_LESIONS = 6
#: Minimum width of the surroundings on a key image, mm.
_KEY_MM = 90.0


@dataclass(frozen=True)
class Curve:
    """Positions of a study's probabilities on their drawing, pixels; feet left, head right.

    Attributes:
        known: slices of the report with a probability; the curve is straight between them.
        count: slices of the study.
        steps: of the exam model, with their probabilities.
        left, right, top, bottom: edges of the plot area.
    """

    known: Sequence[Mapping[str, Any]]
    count: int
    steps: Sequence[Mapping[str, Any]] = ()
    width: int = 1040
    height: int = 190
    left: int = 44
    right: int = 1032
    top: int = 8
    bottom: int = 156

    def x(self, index: float) -> float:
        return self.left + (self.right - self.left) * (index + 0.5) / self.count

    def y(self, probability: float) -> float:
        return self.top + (self.bottom - self.top) * (1 - probability)

    def span(self, part: Mapping[str, Any]) -> tuple[float, float]:
        """Left edge and width of a stretch or lesion of the report."""
        left = self.x(part["first_slice"] - 0.5)
        return left, self.x(part["last_slice"] + 0.5) - left


def write_page(
    path: Path, report: Mapping[str, Any], reader: SliceReader, lesions: Sequence[Lesion]
) -> None:
    """Write ``report.html``.

    Args:
        path: of the file.
        report: the content of ``report.json``.
        reader: gives the slices.
        lesions: as in the report, with their pixels.
    """
    count, _, cols = reader.study.shape
    chords = _chords(report)
    marks = [_marks(index, lesions, cols, chords) for index in range(count)]
    first = _first(report, count)
    slices = [
        _entry(report["slices"][index], reader.hu(index), marks[index])
        for index in _shown(count, lesions, first, {chord["slice"] for chord in chords})
    ]
    listed = [lesion for lesion in lesions if lesion.listed]
    keys = [
        _key(report["lesions"][lesion.number - 1], lesion.box, reader, marks[lesion.key_slice])
        for lesion in listed[:_KEY_LESIONS]
    ]
    left_side = "right" if reader.study.columns_to_left > 0 else "left"
    page = render_page(report, slices, keys, first, left_side)
    path.write_text(page, "utf-8", errors="replace")


def render_page(
    report: Mapping[str, Any],
    slices: Sequence[Mapping[str, Any]],
    keys: Sequence[Mapping[str, Any]],
    first: int,
    left_side: str,
) -> str:
    """The text of the page.

    Args:
        report: the content of ``report.json``.
        slices: those of the scroller, with their images.
        keys: lesions with their own image.
        first: slice that is shown first.
        left_side: side of the patient that is on the left of the images.
    """
    window, given = WINDOWS[WINDOW], report["input"]
    known = [each for each in report["slices"] if each["probability"] is not None]
    block = report["exam_model"]
    steps = [step for step in block["steps"] if step["probability"] is not None] if block else []
    curve = Curve(known, given["slices"], steps)
    data = {
        "rows": given["rows"],
        "cols": given["cols"],
        "first": first,
        "digits": DIGITS,
        "looked_between": [report["lungs"]["first_slice"], report["lungs"]["last_slice"]],
        "slices": slices,
        "curve": {
            "left": curve.left,
            "width": curve.right - curve.left,
            "total": curve.width,
            "count": curve.count,
        },
    }
    return render(
        "reports/page.html",
        report=report,
        geometry=_geometry(given),
        verdict=verdict_in_words(report),
        score=score_text,
        span=span_in_words,
        curve=curve,
        looks_for_lesions=looks_for_lesions(report),
        finders=_finders(report["model"]),
        is_listed=is_listed,
        listed=[lesion for lesion in report["lesions"] if is_listed(lesion)],
        candidates=[lesion for lesion in report["lesions"] if not is_listed(lesion)],
        keys=keys,
        window=f"{WINDOW} (level {window.level:g}, width {window.width:g} HU)",
        provenance=_provenance(report),
        left_side=left_side,
        data=data,
        ratio=ratio_in_words(report),
        obstruction=obstruction_in_words(report),
        **_exam_answer(report, curve),
    )


def _finders(model: Mapping[str, Any]) -> int:
    """How many networks look for lesions, if each one's findings are reported; else 0."""
    members = model["ensemble"]["members"] if model["ensemble"] else []
    count = sum(look_for_lesions(each["tasks"]) for each in members)
    return count if count > 1 else 0


def _exam_answer(report: Mapping[str, Any], curve: Curve) -> dict[str, Any]:
    """Template values for the exam model's answer, if there is one."""
    block = report["exam_model"]
    if block is None:
        return {"block": None, "disagreement": "", "attention": None}
    return {
        "block": block,
        "disagreement": disagreement(report),
        "attention": attention_of(block, curve),
        "exam_call": exam_call_in_words(block),
        "questions": questions(block),
        "faults": [in_plain_words(fault) for fault in block["faults"]],
        "percent": percent,
        "words": WORDS,
    }


def _first(report: Mapping[str, Any], count: int) -> int:
    """The slice to show first: that of the first lesion, or the one with the best probability."""
    listed = [lesion["key_slice"] for lesion in report["lesions"] if is_listed(lesion)]
    if listed:
        return listed[0]
    known = [each for each in report["slices"] if each["probability"] is not None]
    if known:
        return max(known, key=lambda each: each["probability"])["index"]
    return report["lesions"][0]["key_slice"] if report["lesions"] else count // 2


def _shown(
    count: int, lesions: Sequence[Lesion], first: int, measured: Collection[int] = ()
) -> list[int]:
    """All slices, or an even selection of them, plus all key slices, those with a measurement
    and the first one to show."""
    every = -(-count // _MOST_SLICES)
    keys = {lesion.key_slice for lesion in lesions[:50]}
    return sorted(set(range(0, count, every)) | keys | {first, *measured})


def _entry(slice_report: Mapping[str, Any], hu: np.ndarray, marks: str) -> dict[str, Any]:
    return {
        "index": slice_report["index"],
        "z": slice_report["z_mm"],
        "probability": slice_report["probability"],
        "examined": slice_report["examined"],
        "marks": marks,
        "jpeg": _jpeg(hu, _SIDE, _QUALITY),
    }


def _jpeg(hu: np.ndarray, side: int, quality: int) -> str:
    picture = window_to_uint8(hu, WINDOW)
    scale = side / max(picture.shape)
    if scale < 1:
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError(f"a picture of shape {picture.shape} could not be encoded")
    return base64.b64encode(data.tobytes()).decode()


def _chords(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The measured diameters of the ventricles."""
    found = report["measurements"]["rv_lv_ratio"]
    return [found[side] for side in ("right", "left") if found[side] is not None]


def _marks(
    index: int, lesions: Sequence[Lesion], cols: int, chords: Sequence[Mapping[str, Any]]
) -> Markup:
    """Outlines of masks, boxes and diameters on a slice, as SVG in pixels of the slice."""
    values = {"index": index, "lesions": lesions, "cols": cols, "outline": _outline}
    own = [chord["ends"] for chord in chords if chord["slice"] == index]
    return Markup(render("reports/marks.svg", **values, chords=own))


def _outline(pixels: np.ndarray, cols: int) -> str:
    """The edges of a set of pixels as an SVG path, along the pixels' borders."""
    rows, columns = np.divmod(pixels, cols)
    top, left = int(rows.min()), int(columns.min())
    # Doubled, because contours run through pixel centres: so they follow the pixels' borders.
    shape = (int(rows.max()) - top + 1, int(columns.max()) - left + 1)
    mask = np.zeros(shape, np.uint8)
    mask[rows - top, columns - left] = 1
    large = np.pad(mask.repeat(3, 0).repeat(3, 1), 1)
    contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    path = []
    for contour in contours:
        points = (contour[:, 0, :] - 0.5) / 3 + (left, top)
        path.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z")
    return "".join(path)


def _geometry(given: Mapping[str, Any]) -> str:
    spacing = given["spacing_mm"]
    text = (
        f"{given['slices']} slices of {given['rows']} x {given['cols']} pixels, "
        f"{spacing['row']:.2f} x {spacing['col']:.2f} mm, {spacing['slice']:.2f} mm apart"
    )
    return "; ".join([text, *given["notes"]])


def _trained_on(model: Mapping[str, Any]) -> str:
    return "; ".join(map(_set_in_words, by_set(model["trained_on"])))


def _set_in_words(each: Mapping[str, Any]) -> str:
    if each["slices"] is None:
        return "not known"
    kind = {True: ", synthetic", False: "", None: ", not known whether synthetic"}
    step = f" in {each['step']}" if each["step"] else ""
    return (
        f"{each['set']}: {each['slices']} slices of {each['patients']} patients"
        f"{kind[each['synthetic']]}{step}"
    )


def _key(lesion: Mapping[str, Any], box: Box, reader: SliceReader, marks: Markup) -> dict[str, Any]:
    """A lesion of the report with an image of its surroundings on the key slice."""
    row_mm, col_mm, _ = reader.study.known_spacing()
    _, rows, cols = reader.study.shape
    x1, y1, x2, y2 = box
    side = max(_KEY_MM, 1.6 * (x2 - x1) * col_mm, 1.6 * (y2 - y1) * row_mm)
    wide, high = min(round(side / col_mm), cols), min(round(side / row_mm), rows)
    left = int(np.clip((x1 + x2) / 2 - wide / 2, 0, cols - wide))
    top = int(np.clip((y1 + y2) / 2 - high / 2, 0, rows - high))
    part = reader.hu(lesion["key_slice"])[top : top + high, left : left + wide]
    factor = max(1, round(420 / max(part.shape)))
    fine = cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    view = (left, top, wide, high)
    return {"lesion": lesion, "jpeg": _jpeg(fine, 840, 85), "view": view, "marks": marks}


def _provenance(report: Mapping[str, Any]) -> dict[str, Any]:
    model, thresholds = report["model"], report["thresholds"]
    coarse = thresholds["coarse_origin"]
    fixed = ", ".join(
        f"{name} {score_text(thresholds[name])}"
        for name in ("slice", "pixel", "box", "gate", "coarse_gate", "exam", "lesion")
        if thresholds[name] is not None
    )
    exam_model = {}
    if report["exam_model"] is not None:
        origin = _origin(report["exam_model"]["model"]).items()
        exam_model = {f"exam model{'' if key == 'model' else f', {key}'}": v for key, v in origin}
    return {
        **_origin(model),
        "computed with": f"{_arithmetic(model)} on {model['device']} by {model['backend']}, "
        f"{report['seconds']['total']:.1f} s until this page was written",
        "thresholds": f"{fixed}; fixed on: {thresholds['origin']}",
        "gate": "slices below the gate skipped segmentation and detection"
        if model["gated"]
        else "not used; every slice went through every head",
        "slices": reading_in_words(report),
        "coarse gate": f"fixed on {coarse}" if coarse else "none: no slice is skipped",
        "verdict": report["exam"]["rule"],
        "score of a lesion": _score_in_words(model),
        **_other_in_words("lungs for the crop", model["lung_detector"]),
        **_other_in_words("marks in three dimensions", model["volume_model"]),
        **exam_model,
    }


def _arithmetic(model: Mapping[str, Any]) -> str:
    return (
        f"int8 ({', '.join(model['int8'])}) and {model['precision']}"
        if model["int8"]
        else str(model["precision"])
    )


def _other_in_words(what: str, model: Mapping[str, Any] | None) -> dict[str, str]:
    """Describes another model that contributed to the answer, if there is one."""
    if model is None:
        return {}
    return {what: f"{_file_in_words(model)}; trained on {_trained_on(model)}"}


def _score_in_words(model: Mapping[str, Any]) -> str:
    fusion = model["lesion_fusion"]
    if fusion is None:
        return "the highest of mask, box and mark"
    answers = ", ".join(fusion["answers"])
    return (
        f"a logistic model of {answers}, fitted on {fusion['lesions']} lesions of validation "
        f"patients, of which {fusion['true']} touch an embolus"
    )


def _origin(model: Mapping[str, Any]) -> dict[str, str]:
    """Where a model comes from, and the members of an ensemble."""
    if model.get("ensemble"):
        block = model["ensemble"]
        rule = {"mean": "their weighted mean", "vote": "their votes"}[block["rule"]]
        members = "; ".join(
            f"{each['name']} (weight {each['weight']:g}): {_file_in_words(each)}"
            for each in block["members"]
        )
        said = f"{model['checkpoint']}, {len(block['members'])} models by {rule}: {members}"
    else:
        said = _file_in_words(model)
    card = model["card"]
    return {
        "model": said,
        **({"card": f"{card['name']}: {card['summary']}"} if card else {}),
        "trained on": _trained_on(model),
        "sha256": model["sha256"],
    }


def _file_in_words(model: Mapping[str, Any]) -> str:
    """Describes the checkpoint of a single model."""
    parents = ", ".join(f"{each['module']} from {each['from']}" for each in model["parents"])
    said = f"{model['checkpoint']}, step {model['step']}, {model['iterations']} iterations"
    return f"{said}; {parents}" if parents else said
