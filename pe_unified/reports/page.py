"""The report as one page that needs nothing but a browser: curve, lesions, slices."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np

from pe_unified.ct.windows import WINDOWS, window_to_uint8
from pe_unified.evaluation.verdict import DIGITS, score_text
from pe_unified.inference.lesions import Lesion
from pe_unified.inference.reading import SliceReader
from pe_unified.reports.page_curve import CURVE, MARGIN, draw_curve
from pe_unified.reports.report import is_listed, looks_for_lesions, verdict_in_words
from pe_unified.version import __version__

#: The window of all pictures.
WINDOW = "pe"
#: Longer side of a picture in the scroller, pixels, and its JPEG quality.
_SIDE, _QUALITY = 384, 70
#: Slices in the scroller at most; a longer study is thinned.
_MOST_SLICES = 400
#: Lesions with a picture of their own.
_KEY_LESIONS = 6
#: Surroundings that a key picture shows at least, mm.
_KEY_MM = 90.0


def write_page(
    path: Path, report: Mapping[str, Any], reader: SliceReader, lesions: Sequence[Lesion]
) -> None:
    """Write ``report.html``.

    Args:
        path: of the file.
        report: what ``report.json`` holds.
        reader: gives the slices.
        lesions: as in the report, with their pixels.
    """
    template = Template(files("pe_unified.reports").joinpath("page.html").read_text("utf-8"))
    window = WINDOWS[WINDOW]
    count, rows, cols = reader.study.shape
    marks = {index: _marks(index, lesions, cols) for index in range(count)}
    first = _first(report, count)
    listed = [lesion for lesion in lesions if lesion.listed]
    entries = [
        _entry(report["slices"][index], reader.hu(index), marks[index])
        for index in _shown(count, lesions, first)
    ]
    given = report["input"]
    data = {
        "rows": rows,
        "cols": cols,
        "first": first,
        "digits": DIGITS,
        "slices": entries,
        "curve": {
            "left": MARGIN[0],
            "width": CURVE[0] - MARGIN[0] - MARGIN[1],
            "total": CURVE[0],
            "count": count,
        },
    }
    page = template.substitute(
        title=html.escape(given["study_uid"] or "study without UID"),
        notice=html.escape(report["notice"]),
        study_uid=html.escape(given["study_uid"] or "without UID"),
        series_uid=html.escape(given["series_uid"] or "without UID"),
        geometry=html.escape(_geometry(report)),
        training=_training(report["model"]["training_notice"]),
        flags=_flags(report["quality"]),
        answer=_answer(report),
        curve=draw_curve(report),
        lesions=_lesions(report),
        keys=_keys(report["lesions"], listed, reader, marks),
        window=f"{WINDOW} (level {window.level:g}, width {window.width:g} HU)",
        provenance=_provenance(report),
        left_side="right" if reader.study.columns_to_left > 0 else "left",
        version=html.escape(__version__),
        created=html.escape(report["created"]),
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).replace("</", "<\\/"),
    )
    path.write_text(page, "utf-8", errors="replace")


def _first(report: Mapping[str, Any], count: int) -> int:
    """The slice to begin with: the first lesion's, or the one with the highest probability."""
    listed = [lesion["key_slice"] for lesion in report["lesions"] if is_listed(lesion)]
    if listed:
        return listed[0]
    known = [each for each in report["slices"] if each["probability"] is not None]
    if known:
        return max(known, key=lambda each: each["probability"])["index"]
    return report["lesions"][0]["key_slice"] if report["lesions"] else count // 2


def _shown(count: int, lesions: Sequence[Lesion], first: int) -> list[int]:
    """Every slice, or an even part of them, all key slices and the one to begin with."""
    every = -(-count // _MOST_SLICES)
    keys = {lesion.key_slice for lesion in lesions[:50]}
    return sorted(set(range(0, count, every)) | keys | {first})


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


def _marks(index: int, lesions: Sequence[Lesion], cols: int) -> str:
    """Outlines of masks and boxes on a slice, as SVG in pixels of the slice."""
    parts = []
    for lesion in lesions:
        kind = "" if lesion.listed else " candidate"
        pixels = lesion.pixels.get(index)
        if pixels is not None:
            parts.append(f'<path class="mask{kind}" d="{_outline(pixels, cols)}"/>')
        for place, (x1, y1, x2, y2), _ in lesion.boxes:
            if place == index:
                parts.append(
                    f'<rect class="box{kind}" x="{x1 - 1:.1f}" y="{y1 - 1:.1f}" '
                    f'width="{x2 - x1 + 2:.1f}" height="{y2 - y1 + 2:.1f}"/>'
                )
    return "".join(parts)


def _outline(pixels: np.ndarray, cols: int) -> str:
    """The edges of a set of pixels as an SVG path, along the pixels' borders."""
    rows, columns = np.divmod(pixels, cols)
    top, left = int(rows.min()), int(columns.min())
    # Doubled, so that contours, which run through pixel centres, lie on the pixels' borders.
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


def _geometry(report: Mapping[str, Any]) -> str:
    given, spacing = report["input"], report["input"]["spacing_mm"]
    text = (
        f"{given['slices']} slices of {given['rows']} x {given['cols']} pixels, "
        f"{spacing['row']:.2f} x {spacing['col']:.2f} mm, {spacing['slice']:.2f} mm apart"
    )
    return "; ".join([text, *given["notes"]])


def _flags(quality: Mapping[str, Any]) -> str:
    if not quality["flags"]:
        return ""
    items = "".join(
        f"<li>{html.escape(flag['reason'])}{_measured(flag)}</li>" for flag in quality["flags"]
    )
    if quality["abstain"]:
        return (
            '<section class="flags" id="abstain"><b>Do not rely on the scores of this study.</b>'
            f"<ul>{items}</ul></section>"
        )
    return f'<section class="flags mild"><ul>{items}</ul></section>'


def _measured(flag: Mapping[str, Any]) -> str:
    if flag["value"] is None:
        return ""
    unit = html.escape(f" {flag['unit']}".rstrip())
    return f" ({flag['value']:.3g}{unit}; the limit is {flag['limit']:g}{unit})"


def _answer(report: Mapping[str, Any]) -> str:
    exam = report["exam"]
    listed = [lesion for lesion in report["lesions"] if is_listed(lesion)]
    word = {True: "positive", False: "negative", None: "no call"}[exam["positive"]]
    parts = [(word, html.escape(verdict_in_words(report)))]
    if exam["probability"] is not None:
        parts.append(
            (
                score_text(exam["probability"]),
                f"highest score of a stretch{_from(exam['threshold'])}",
            ),
        )
    if looks_for_lesions(report):
        limit = _from(exam["lesion_threshold"])
        parts.append((score_text(exam["lesion_score"]), f"highest score of a lesion{limit}"))
        number = len(listed)
        parts.append((str(number), "lesion" if number == 1 else "lesions"))
    if listed and "seg" in report["model"]["tasks"]:
        volume = sum(lesion["volume_ml"] or 0 for lesion in listed)
        parts.append((f"{volume:.2f} ml", "volume of the lesions"))
    return "".join(f"<div><b>{value}</b>{words}</div>" for value, words in parts)


def _from(threshold: float | None) -> str:
    said = "no threshold" if threshold is None else f"called from {score_text(threshold)}"
    return f'<br><span class="quiet">{said}</span>'


def _lesions(report: Mapping[str, Any]) -> str:
    """The findings, and below them what was looked at and is not called."""
    if not looks_for_lesions(report):
        return "<p>The model does not look for lesions.</p>"
    listed = [lesion for lesion in report["lesions"] if is_listed(lesion)]
    candidates = [lesion for lesion in report["lesions"] if not is_listed(lesion)]
    parts = [_table(listed) if listed else "<p>None called.</p>" if candidates else "<p>None.</p>"]
    if candidates:
        threshold = report["exam"]["lesion_threshold"]
        whys = [_why_not(lesion, threshold) for lesion in candidates]
        parts.append(
            f"<details><summary>{len(candidates)} candidates, not called</summary><p class=quiet>"
            "They are not findings, and are neither in the masks nor in SEG and SR.</p>"
            f"{_table(candidates, whys)}</details>"
        )
    return "".join(parts)


def _why_not(lesion: Mapping[str, Any], threshold: float | None) -> str:
    if not lesion["can_be_clot"]:
        return "the attenuation is not that of a clot"
    return "lesions are not called" if threshold is None else f"score below {score_text(threshold)}"


def _table(lesions: Sequence[Mapping[str, Any]], whys: Sequence[str] = ()) -> str:
    words = ("side", "level (a guess)", "why not")
    names = (
        *("#", "score", "slices", "side", "level (a guess)", "volume, ml", "diameter, mm"),
        *("mean HU", "x, y, z (LPS, mm)", *(["why not"] if whys else [])),
    )
    kinds = [" class=words" if name in words else "" for name in names]
    head = "".join(f"<th{kind}>{name}</th>" for name, kind in zip(names, kinds, strict=True))
    body = []
    for place, lesion in enumerate(lesions):
        cells = [
            str(lesion["number"]),
            score_text(lesion["score"]),
            f"{lesion['first_slice']} to {lesion['last_slice']}",
            lesion["side"],
            lesion["level_guess"],
            _number(lesion["volume_ml"], 2),
            _number(lesion["largest_diameter_mm"], 0),
            _number(lesion["mean_hu"], 1),
            ", ".join(f"{lesion['centroid_mm'][axis]:.0f}" for axis in "xyz"),
            *whys[place : place + 1],
        ]
        row = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(cells, kinds, strict=True))
        body.append(f'<tr class="jump" data-slice="{lesion["key_slice"]}">{row}</tr>')
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _training(notice: str) -> str:
    """What stands above everything else; empty where the model learned from patients alone."""
    return f'<p class="flags">This model: <b>{html.escape(notice)}</b>.</p>' if notice else ""


def _trained_on(each: Mapping[str, Any]) -> str:
    if each["slices"] is None:
        return "not known"
    kind = {True: ", synthetic", False: "", None: ", not known whether synthetic"}
    step = f" in {each['step']}" if each["step"] else ""
    return (
        f"{each['set']}: {each['slices']} slices of {each['patients']} patients"
        f"{kind[each['synthetic']]}{step}"
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _keys(
    described: Sequence[Mapping[str, Any]],
    lesions: Sequence[Lesion],
    reader: SliceReader,
    marks: Mapping[int, str],
) -> str:
    """Pictures of the first lesions: their surroundings on the key slice."""
    if not lesions:
        return ""
    row_mm, col_mm, _ = reader.study.known_spacing()
    _, rows, cols = reader.study.shape
    figures = []
    for lesion in lesions[:_KEY_LESIONS]:
        words = described[lesion.number - 1]
        x1, y1, x2, y2 = lesion.box
        side = max(_KEY_MM, 1.6 * (x2 - x1) * col_mm, 1.6 * (y2 - y1) * row_mm)
        wide, high = min(round(side / col_mm), cols), min(round(side / row_mm), rows)
        left = int(np.clip((x1 + x2) / 2 - wide / 2, 0, cols - wide))
        top = int(np.clip((y1 + y2) / 2 - high / 2, 0, rows - high))
        part = reader.hu(lesion.key_slice)[top : top + high, left : left + wide]
        factor = max(1, round(420 / max(part.shape)))
        fine = cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        caption = f"{words['number']}: {words['side']}, {words['level_guess']}"
        if words["volume_ml"] is not None:
            caption += f", {words['volume_ml']:.2f} ml"
        figures.append(
            f'<figure data-slice="{lesion.key_slice}"><div class="picture">'
            f'<img alt="lesion {lesion.number}" src="data:image/jpeg;base64,'
            f'{_jpeg(fine, 840, 85)}">'
            f'<svg viewBox="{left} {top} {wide} {high}">{marks[lesion.key_slice]}</svg></div>'
            f"<figcaption>{html.escape(caption)}<br><span class=quiet>slice {lesion.key_slice}, "
            f"score {score_text(words['score'])}</span></figcaption></figure>"
        )
    return f'<h2>Key slices</h2><div class="keys">{"".join(figures)}</div>'


def _provenance(report: Mapping[str, Any]) -> str:
    model, thresholds = report["model"], report["thresholds"]
    parents = ", ".join(f"{each['module']} from {each['from']}" for each in model["parents"])
    fixed = ", ".join(
        f"{name} {score_text(thresholds[name])}"
        for name in ("slice", "pixel", "box", "gate", "exam", "lesion")
        if thresholds[name] is not None
    )
    facts = {
        "model": f"{model['checkpoint']}, step {model['step']}, {model['iterations']} iterations"
        + (f"; {parents}" if parents else ""),
        "trained on": "; ".join(map(_trained_on, model["trained_on"])),
        "sha256": model["sha256"],
        "computed with": f"{model['precision']} on {model['device']} by {model['backend']}, "
        f"{report['seconds']['total']:.1f} s until this page was written",
        "thresholds": f"{fixed}; fixed on: {thresholds['origin']}",
        "gate": "slices below the gate skipped segmentation and detection"
        if model["gated"]
        else "not used; every slice went through every head",
        "verdict": report["exam"]["rule"],
    }
    return "".join(f"<dt>{name}</dt><dd>{html.escape(str(v))}</dd>" for name, v in facts.items())
