"""Slices with heat maps over the part that the network saw."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pe_unified.ct.windows import Window
from pe_unified.evaluation.figures.overlays import (
    TRUTH_COLOUR,
    SliceView,
    region_of,
    show_slice,
    with_window,
)
from pe_unified.evaluation.figures.style import new_figure
from pe_unified.evaluation.intervals import FloatArray

#: Inches: height of a picture, gap between pictures, margin, heading, and top of the figure.
_HIGH, _GAP, _MARGIN, _HEADING, _TOP = 2.1, 0.03, 0.12, 0.38, 0.56
#: Opacity of the strongest heat.
_OPAQUE = 0.75


def _heat_colours() -> Colormap:
    """Dark red to pale yellow, without the black end that would look like air."""
    return ListedColormap(colormaps["inferno"](np.linspace(0.35, 0.95, 256)))


@dataclass(frozen=True)
class HeatView:
    """A slice and its heat map.

    Fields:
        view: the slice, with its truth and its score.
        heat: (rows, cols) of cells, from 0.
        extent: x0 y0 x1 y1, the area of the cells, in pixel edges of the slice.
        weight: text of a further score, such as the slice's attention.
    """

    view: SliceView
    heat: FloatArray
    extent: tuple[float, float, float, float]
    weight: str = ""

    @property
    def caption(self) -> str:
        """Two lines: the slice; truth and scores. The figure names the patient."""
        first, second = self.view.caption.split("\n")
        first = first.removeprefix(f"{self.view.patient}, ")
        return f"{first[0].upper()}{first[1:]}\n{', '.join(filter(None, (second, self.weight)))}"


def heat_figure(
    views: Sequence[HeatView],
    path: str | os.PathLike,
    title: str,
    window: str | Window = "pe",
    columns: int = 2,
    note: str = "",
) -> None:
    """Slices of one patient in rows of ``columns``, each plain and with heat next to it.

    All heat maps have the same scale, from 0 to the largest value of the figure; low heat is
    transparent. True masks are outlined.

    Raises:
        ValueError: there is no slice.
    """
    if not views:
        raise ValueError("there is no slice to show")
    columns = min(columns, len(views))
    rows = math.ceil(len(views) / columns)
    regions = [region_of(each.view) for each in views]
    wide = _HIGH * max((x1 - x0) / (y1 - y0) for x0, y0, x1, y1 in regions)
    cell = 2 * wide + _GAP + 2 * _MARGIN
    height = _TOP + rows * (_HEADING + _HIGH) + _MARGIN
    largest = max(float(each.heat.max()) for each in views)
    with new_figure(path, max(columns * cell, 4.4), height, with_window(note, window)) as figure:
        figure.set_layout_engine("none")
        width, total = figure.get_size_inches()

        def place(left: float, top: float, across: float, down: float) -> Axes:
            rect = (left / width, 1 - (top + down) / total, across / width, down / total)
            axes = figure.add_axes(rect, anchor="W")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.grid(visible=False)
            return axes

        for number, (each, region) in enumerate(zip(views, regions)):
            left = (number % columns) * cell + _MARGIN
            top = _TOP + (number // columns) * (_HEADING + _HIGH) + _HEADING
            plain = place(left, top, wide, _HIGH)
            plain.set_title(each.caption, fontsize=7.5, fontweight="normal", pad=3)
            show_slice(plain, each.view, region, window, line_width=0.0)
            warm = place(left + wide + _GAP, top, wide, _HIGH)
            show_slice(warm, each.view, region, window, line_width=1.0)
            _show_heat(warm, each, region, largest or 1.0)
        figure.text(_MARGIN / width, 1 - 0.08 / total, title, fontweight="bold", va="top")
        masks = [each.view.truth_mask for each in views]
        _legend(figure, place, any(mask is not None and mask.any() for mask in masks))


def _show_heat(
    axes: Axes, each: HeatView, region: tuple[float, float, float, float], largest: float
) -> None:
    share = each.heat / largest
    x0, y0, x1, y1 = each.extent
    axes.imshow(
        share,
        cmap=_heat_colours(),
        vmin=0,
        vmax=1,
        alpha=_OPAQUE * share,
        extent=(x0 - 0.5, x1 - 0.5, y1 - 0.5, y0 - 0.5),
        interpolation="hanning",
    )
    x0, y0, x1, y1 = region
    axes.set(xlim=(x0 - 0.5, x1 - 0.5), ylim=(y1 - 0.5, y0 - 0.5))


def _legend(figure: Figure, place: Any, with_truth: bool) -> None:
    """The legend: scale of the heat, and the outline."""
    width, total = figure.get_size_inches()
    bar = place(_MARGIN + 0.32, 0.36, 0.9, 0.11)
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=_heat_colours(), aspect="auto")
    text = {"fontsize": 8, "va": "center", "y": 1 - 0.415 / total}
    figure.text(x=_MARGIN / width, s="heat", **text)
    figure.text(x=(_MARGIN + 1.29) / width, s="from 0 to the maximum here", **text)
    if with_truth:
        line = Line2D([], [], color=TRUTH_COLOUR, lw=1.8, label="true embolus")
        where = ((_MARGIN + 2.85) / width, 1 - 0.415 / total)
        figure.legend(handles=[line], loc="center left", bbox_to_anchor=where, borderaxespad=0)
