"""The probabilities of a study along the body, as SVG, with what is called."""

from collections.abc import Iterable, Mapping
from typing import Any

from pe_unified.evaluation.verdict import score_text
from pe_unified.reports.report import is_listed

#: Size of the curve's drawing, and its margins: left, right, top, bottom.
CURVE = (1040, 190)
MARGIN = (44, 8, 8, 34)


def draw_curve(report: Mapping[str, Any]) -> str:
    """The probabilities against the height, with the lesions below."""
    slices, threshold = report["slices"], report["exam"]["threshold"]
    if all(each["probability"] is None for each in slices):
        return '<p class="quiet">The model does not classify slices.</p>'
    width, height = CURVE
    left, right, top, bottom = MARGIN
    inner, tall, count = width - left - right, height - top - bottom, len(slices)

    def x(index: float) -> float:
        return left + inner * (index + 0.5) / count

    def y(value: float) -> float:
        return top + tall * (1 - value)

    parts = [
        f'<div class="wide"><svg class="curve" id="curve" viewBox="0 0 {width} {height}" '
        'width="100%" role="img" aria-label="probability of embolism by slice">'
    ]
    for stretch in report["exam"]["stretches"]:
        first, last = x(stretch["first_slice"] - 0.5), x(stretch["last_slice"] + 0.5)
        parts.append(
            f'<rect class="stretch" x="{first:.1f}" y="{top}" width="{last - first:.1f}" '
            f'height="{tall}" fill="#fdf0ee"><title>called stretch</title></rect>'
        )
    for value in (0, 0.5, 1):
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="#d9dde2"/><text x="{left - 6}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:g}</text>'
        )
    if threshold is not None:
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y(threshold):.1f}" '
            f'y2="{y(threshold):.1f}" stroke="#a3221a" stroke-dasharray="4 3"/>'
            f'<text x="{width - right}" y="{y(threshold) - 4:.1f}" text-anchor="end">'
            f"a stretch is called from {score_text(threshold)}</text>"
        )
    for lesion in sorted(report["lesions"], key=is_listed):  # findings above candidates
        first, last = x(lesion["first_slice"] - 0.5), x(lesion["last_slice"] + 0.5)
        parts.append(
            f'<rect x="{first:.1f}" y="{height - bottom + 4}" width="{max(last - first, 1.5):.1f}" '
            f'height="7" fill="{"#f5a000" if is_listed(lesion) else "#a9b0b8"}" '
            f'fill-opacity="0.75"><title>{"lesion" if is_listed(lesion) else "candidate"} '
            f"{lesion['number']}</title></rect>"
        )
    for run in _runs(slices):
        points = " ".join(f"{x(each['index']):.1f},{y(each['probability']):.1f}" for each in run)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="#0072b2" stroke-width="1.8"/>'
        )
    parts.append(
        f'<line id="cursor" class="screen" y1="{top}" y2="{height - bottom}" x1="-9" x2="-9" '
        'stroke="#1c1f23"/>'
        f'<text x="{left}" y="{height - 6}">feet, slice 0</text>'
        f'<text x="{width - right}" y="{height - 6}" text-anchor="end">'
        f"head, slice {count - 1}</text>"
        f'<text x="{left + inner / 2:.0f}" y="{height - 6}" text-anchor="middle">'
        "orange: lesions; grey: candidates; red background: called stretches</text></svg></div>"
    )
    return "".join(parts)


def _runs(slices: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Neighbouring slices with a probability."""
    runs: list[list[Mapping[str, Any]]] = []
    open_run = False
    for each in slices:
        if each["probability"] is None:
            open_run = False
        elif open_run:
            runs[-1].append(each)
        else:
            runs.append([each])
            open_run = True
    return runs
