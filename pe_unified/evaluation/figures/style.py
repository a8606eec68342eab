"""The style of all figures: colours that colour-blind readers can distinguish, and the footer."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path

from pe_unified.disclaimer import RESEARCH_LINE
from pe_unified.evaluation.in_words import interval_in_words
from pe_unified.evaluation.intervals import Estimate
from pe_unified.files import appearing

#: Okabe and Ito's palette without yellow and black; line styles work without colour.
_ARM_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_ARM_LINES = ((0, (5, 1.5)), "-", (0, (5, 1.2, 1.2, 1.2)), (0, (1.5, 1.0)))
#: Arms trained from ImageNet or scratch, and arms that start from earlier steps.
SCRATCH_COLOUR, REUSED_COLOUR = _ARM_COLOURS[:2]
INK, FAINT = "#222222", "#6B6B6B"

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.color": INK,
    "hatch.linewidth": 0.6,
}
#: Largest number of arms whose bands can be distinguished, of those that are named, and of those
#: whose names fit inside the axes.
MOST_BANDS, _MOST_NAMED, _MOST_INSIDE = 3, 8, 4
_DPI = 200
#: Font size of the footer in points, and height of its lines in inches.
_FOOTER_SIZE, _FOOTER_LINE = 7, 0.14


@contextmanager
def new_figure(
    path: str | os.PathLike, width: float, height: float, note: str = ""
) -> Iterator[Figure]:
    """A figure in the common style, written to ``path`` when the block ends.

    Drawn without pyplot, so nothing global is changed and no display is needed. The file is written
    atomically; a missing folder is created.

    Args:
        path: ``.png``, ``.pdf`` or ``.svg``.
        width: inches.
        height: inches, without the footer.
        note: text in the footer before the research line, e.g. "synthetic data".
    """
    path = Path(path)
    with matplotlib.rc_context(_STYLE):
        lines = _wrapped(footer(note), 0.97 * width)
        footer_inches = 0.14 + _FOOTER_LINE * len(lines)
        total = height + footer_inches
        bottom, top = footer_inches / total, 1 - 0.06 / total
        layout = ConstrainedLayoutEngine(rect=(0, bottom, 0.99, top - bottom))
        figure = Figure(figsize=(width, total), layout=layout)
        yield figure
        said = "\n".join(lines)
        figure.text(0.012, 0.07 / total, said, fontsize=_FOOTER_SIZE, color=FAINT, va="bottom")
        with appearing(path) as partial:
            figure.savefig(partial, format=path.suffix[1:], dpi=_DPI, facecolor="white")


def _wrapped(text: str, inches: float) -> list[str]:
    """The text in lines of at most this width, broken between words."""
    font = FontProperties(size=_FOOTER_SIZE)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        width = text_to_path.get_text_width_height_descent(longer, font, ismath=False)[0] / 72
        lines[-1:] = [longer] if width <= inches or not lines else [lines[-1], word]
    return lines


def footer(note: str) -> str:
    """The note, then the research line, once."""
    said = note.replace(RESEARCH_LINE, "").strip(" .")
    return f"{said}. {RESEARCH_LINE}." if said else f"{RESEARCH_LINE}."


def arm_style(index: int) -> dict[str, Any]:
    """Colour and line style of the arm at a position; positions differ in at least one."""
    return {
        "color": _ARM_COLOURS[index % len(_ARM_COLOURS)],
        "linestyle": _ARM_LINES[index % len(_ARM_LINES)],
        "linewidth": 1.7,
    }


def arm_styles(found: Mapping[str, Estimate], measure: str) -> dict[str, dict[str, Any]]:
    """Style and legend of every arm, by name; of more than eight, the others are grey.

    Args:
        found: by arm, what the legend says and the best are chosen by; NaN if there is none.
        measure: its name in the legend.
    """
    ranked = sorted(found, key=lambda name: np.nan_to_num(found[name].value, nan=-1), reverse=True)
    named = [name for name in found if name in ranked[:_MOST_NAMED]]
    styles = {}
    for index, name in enumerate(named):
        said = interval_in_words(found[name].value, found[name].low, found[name].high)
        styles[name] = {**arm_style(index), "label": f"{name}: {measure} {said}"}
    others = ranked[_MOST_NAMED:]
    for name in others:
        label = f"{len(others)} others" if name == others[0] else None
        styles[name] = {"color": "#BBBBBB", "linewidth": 1.0, "zorder": 1.5, "label": label}
    return styles


def legend_width(arms: int) -> float:
    """Inches beside the axes for the legend of so many arms."""
    return 2.4 if arms > _MOST_INSIDE else 0.0


def arms_legend(axes: Axes, arms: int, corner: str) -> None:
    """Draw the legend in a corner of the axes, or beside them where it needs more room."""
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    axes.legend(**(beside if arms > _MOST_INSIDE else {"loc": corner}), handlelength=2.6)


def unit_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Set both axes to 0..1, square."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x_label, ylabel=y_label)
    axes.set_aspect("equal")
    ticks = (0, 0.2, 0.4, 0.6, 0.8, 1.0)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
