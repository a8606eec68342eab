"""The page of an audit: findings, numbers, and the slices that they are about."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.converters.contract.schema import decode_mask
from pe_unified.ct.hu import read_slice_png
from pe_unified.ct.windows import WINDOWS, window_to_uint8
from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.engine.browse import BOX_RGB, MASK_RGB, Item, draw_article
from pe_unified.templates import render

#: Most findings whose slices are shown, and examples of each split.
_MOST_FINDINGS, _OF_SPLIT = 12, 3
_WINDOW = "pe"
_BAR_HU, _BAR_PIXELS = 20, 90


def audit_page(
    root: Path,
    found: Mapping[str, Any],
    images: Mapping[str, tuple[Mapping[str, Any], Sequence[dict], str]],
) -> str:
    """The text of the page.

    Args:
        root: folder of the set.
        found: the content of ``audit.json``.
        images: by file name, its entry, its annotations and its split.
    """
    articles = []
    for finding in found["findings"][:_MOST_FINDINGS]:
        for name in finding["slices"]:
            if name in images:
                why = f"{finding['severity']}: {finding['check']}"
                articles.append(_article(root, name, *images[name], why))
    for split in found["splits"]:
        own = [name for name, (_, boxes, part) in images.items() if part == split and boxes]
        for name in own[:: max(1, len(own) // _OF_SPLIT)][:_OF_SPLIT]:
            articles.append(_article(root, name, *images[name], f"an example of {split}"))
    info, geometry = found["info"], found["geometry"]
    facts = [
        f"{info.get('description')}; {info.get('source')}; {info.get('licence')}",
        f"{geometry['series']} series; slices of {', '.join(geometry['sizes'])}; pixels "
        f"{_range(geometry['pixel_mm'])}, slices {_range(geometry['slice_mm'])} apart; "
        f"{geometry['oriented']} series give their orientation",
        found["compared"],
    ]
    return render(
        "audit/page.html",
        title=f"Audit of {found['set']}",
        verdict=found["verdict"],
        facts=facts,
        findings=found["findings"],
        splits=list(found["splits"]),
        rows=_rows(found["splits"]),
        bars=_bars([each["mean"] for each in found["hu_under_masks"].values()]),
        colours={"mask outline": MASK_RGB, "box": BOX_RGB},
        articles=articles,
        notice=RESEARCH_LINE,
    )


def _range(ends: Sequence[float] | None) -> str:
    if ends is None:
        return "of unknown size"
    return f"{ends[0]:.2f} to {ends[2]:.2f} mm (median {ends[1]:.2f})"


def _rows(splits: Mapping[str, Mapping[str, Any]]) -> dict[str, list[object]]:
    """The table of the splits, row by row."""
    words = {
        "patients": "patients",
        "positive_patients": "patients with embolism",
        "studies": "studies",
        "slices": "slices",
        "positive_slices": "slices with embolism",
        "unlabelled_slices": "slices not labelled",
        "emboli": "annotated components",
    }
    rows: dict[str, list[object]] = {}
    for key, name in words.items():
        rows[name] = [each[key] for each in splits.values()]
    labels = dict.fromkeys(label for each in splits.values() for label in each["exam_labels"])
    for label in labels:
        counts = [each["exam_labels"].get(label) for each in splits.values()]
        rows[f"exams, {label} yes / no"] = [
            "unknown" if each is None else f"{each[0]} / {each[1]}" for each in counts
        ]
    return rows


def _bars(means: Sequence[float]) -> list[dict[str, int]]:
    """Patients by their mean HU, in steps of ``_BAR_HU``."""
    if not means:
        return []
    lows = [int(mean // _BAR_HU) * _BAR_HU for mean in means]
    counts = Counter(lows)
    tallest = max(counts.values())
    return [
        {"low": low, "count": counts[low], "height": round(_BAR_PIXELS * counts[low] / tallest)}
        for low in range(min(lows), max(lows) + 1, _BAR_HU)
    ]


def _article(
    root: Path,
    name: str,
    image: Mapping[str, Any],
    annotations: Sequence[dict],
    split: str,
    why: str,
) -> dict[str, object]:
    """A slice with its labels, as the page of ``browse`` shows one."""
    shape = image["height"], image["width"]
    try:
        hu = read_slice_png(root / name)
    except (OSError, ValueError):  # a fault that the findings list
        hu = np.full(shape, -1024, np.int16)
    boxes = np.array([each["bbox"] for each in annotations], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    known = {None: "unknown", 0: "no embolism", 1: "embolism"}[image["pe_present"]]
    caption = {
        "shown": why,
        "patient": str(image["patient_id"]),
        "split": split,
        "file": name,
        "label": known,
    }
    window = WINDOWS[_WINDOW]
    mask = _mask(annotations, hu.shape)
    item = Item(window_to_uint8(hu, _WINDOW)[None], mask, boxes, caption, "")
    return draw_article(item, [f"{_WINDOW} {window.level:g} / {window.width:g} HU"])


def _mask(annotations: Sequence[dict], shape: tuple[int, ...]) -> np.ndarray | None:
    """All masks of a slice in one, without invalid ones, which the findings list."""
    whole = None
    for code in (each["segmentation"] for each in annotations if each["segmentation"]):
        try:
            mask = decode_mask(code)
        except Exception:  # pycocotools may raise any error
            continue
        if mask.shape == shape:
            whole = mask if whole is None else whole | mask
    return whole
