"""Flow diagram of the exams of a run: from the file to training and test."""

import os
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from pe_unified.evaluation.figures.style import FAINT, INK, new_figure

_WORDS = (
    "Undecided: indeterminate, or not labelled. Note: labels that contradict each other, or "
    "several series"
)
_TITLES = {"train": "Training", "val": "Validation", "test": "Test"}
#: Classes of the used exams: key in a flow, title, colour of the box.
_CLASSES = (
    ("positive", "Positive", "#D55E00"),
    ("negative", "Negative", "#0072B2"),
    ("undecided", "Undecided", FAINT),
)
#: Inches: width of boxes in a column and next to it, gap between boxes, margin of a column.
_WIDE, _ASIDE, _GAP, _EDGE = 2.5, 1.85, 0.24, 0.16
#: Height of a line and of the frame of a box, inches; letters per line of the side boxes.
_LINE, _FRAME, _LETTERS = 0.155, 0.14, 28


def flow_figure(
    flows: Mapping[str, Mapping[str, Any]], path: str | os.PathLike, note: str = ""
) -> None:
    """Numbers of exams in the file, left out with reason, and used; one column per split.

    After the flow diagram of CONSORT (https://www.consort-spirit.org).

    Args:
        flows: name of a split to ``flow`` of its
            :class:`~pe_unified.datasets.exam_dataset.PEExamDataset`.

    Raises:
        ValueError: there is no split.
    """
    if not flows:
        raise ValueError("there is no split to draw")
    column = _EDGE + _WIDE + _GAP + _ASIDE
    asides = {name: _left_out(flow) for name, flow in flows.items()}
    aside = max(map(_height, asides.values()))
    heads = {name: _in_file(name, flow) for name, flow in flows.items()}
    head = max(map(_height, heads.values()))
    height = _EDGE + head + _GAP + aside + _GAP + _height(["", ""]) + _GAP + _height(["", ""]) + 0.1
    said = f"{note.rstrip(' .')}. {_WORDS}" if note else _WORDS
    with new_figure(path, len(flows) * column + _EDGE, height, said) as figure:
        figure.set_layout_engine("none")
        width, total = figure.get_size_inches()
        axes = figure.add_axes((0, 1 - height / total, 1, height / total))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        for number, (name, flow) in enumerate(flows.items()):
            left = _EDGE + number * column
            middle, top = left + _WIDE / 2, _EDGE
            _box(axes, heads[name], left, top, _WIDE, head, bold=True)
            used = top + head + _GAP + aside + _GAP
            _arrow(axes, (middle, top + head), (middle, used))
            own = _height(asides[name])
            beside = top + head + _GAP + (aside - own) / 2
            _arrow(axes, (middle, beside + own / 2), (left + _WIDE + _GAP, beside + own / 2))
            _box(
                axes,
                asides[name],
                left + _WIDE + _GAP,
                beside,
                _ASIDE,
                own,
                bold=True,
                centred=False,
            )
            _box(axes, _used(flow), left, used, _WIDE, _height(_used(flow)), bold=True)
            _classes(axes, flow, left, used + _height(_used(flow)))


def _classes(axes: Axes, flow: Mapping[str, Any], left: float, bottom: float) -> None:
    """The boxes of the classes, below the box of used exams that ends at ``bottom``."""
    gap = 0.06
    wide = (_WIDE - (len(_CLASSES) - 1) * gap) / len(_CLASSES)
    top = bottom + _GAP
    for place, (key, title, colour) in enumerate(_CLASSES):
        x = left + place * (wide + gap)
        lines = [title, f"{flow[key]:,} ({100 * flow[key] / flow['kept']:.0f} %)"]
        _arrow(axes, (x + wide / 2, bottom), (x + wide / 2, top))
        _box(axes, lines, x, top, wide, _height(lines), colour=colour)


def _in_file(name: str, flow: Mapping[str, Any]) -> list[str]:
    return [_TITLES.get(name, name), f"{_exams(flow['exams'])} in {Path(flow['file']).name}"]


def _left_out(flow: Mapping[str, Any]) -> list[str]:
    """The number left out, and the number for every reason, most frequent first."""
    reasons = Counter(each["reason"] for each in flow["left_out"])
    lines = [f"{_exams(len(flow['left_out']))} left out"]
    for reason, count in reasons.most_common():
        first, *more = textwrap.wrap(f"{count:,}: {reason}", _LETTERS)
        lines += [first, *(f"    {line}" for line in more)]
    return lines


def _used(flow: Mapping[str, Any]) -> list[str]:
    gone = {each["study_uid"] for each in flow["left_out"]}
    noted = len({each["study_uid"] for each in flow["notes"]} - gone)
    return [f"{_exams(flow['kept'])} used", f"{noted:,} of them with a note"]


def _exams(count: int) -> str:
    return f"{count:,} exam" if count == 1 else f"{count:,} exams"


def _height(lines: Sequence[str]) -> float:
    return _FRAME + _LINE * len(lines)


def _box(
    axes: Axes,
    lines: Sequence[str],
    left: float,
    top: float,
    wide: float,
    high: float,
    bold: bool = False,
    centred: bool = True,
    colour: str = FAINT,
) -> None:
    """Lines in a frame; with ``bold`` the first is bold."""
    shape = "round,pad=0,rounding_size=0.05"
    axes.add_patch(FancyBboxPatch((left, top), wide, high, shape, fc="white", ec=colour, lw=1.0))
    x, across = (left + wide / 2, "center") if centred else (left + 0.08, "left")
    y = top + (high - _LINE * len(lines)) / 2 + _LINE / 2
    for number, line in enumerate(lines):
        weight = "bold" if bold and not number else "normal"
        axes.text(
            *(x, y + number * _LINE, line),
            color=INK,
            fontsize=8,
            fontweight=weight,
            ha=across,
            va="center_baseline",
        )


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": FAINT, "lw": 1.0, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops={**style, "mutation_scale": 8})
