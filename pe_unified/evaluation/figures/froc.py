"""FROC curves: sensitivity over emboli against false positives per scan."""

import math
import os
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes

from pe_unified.evaluation import intervals
from pe_unified.evaluation.figures.style import (
    MOST_BANDS,
    arm_style,
    arm_styles,
    arms_legend,
    legend_width,
    new_figure,
)
from pe_unified.evaluation.froc import LesionTable
from pe_unified.evaluation.intervals import Estimate, Statistic
from pe_unified.evaluation.tables import IntArray

#: Left end of the logarithmic axis, its ticks, and the number of points of a curve.
_LEAST, _TICKS, _POINTS = 0.125, (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32), 120


class Method(Protocol):
    """Method for intervals: a module with this function."""

    def estimate(self, statistic: Statistic, patients: int | IntArray) -> dict[str, Estimate]: ...


def froc_figure(
    arms: Mapping[str, LesionTable],
    path: str | os.PathLike,
    note: str = "",
    title: str = "Emboli found",
    most_false: float = 16.0,
) -> None:
    """Curves with interval bands; the legend has the mean sensitivity at the usual rates.

    More than three arms have no bands, and of more than eight only the best are named.

    Args:
        arms: name to the marks of its test split, all at the same epsilon.
        most_false: right end of the logarithmic axis.
    """
    means = {
        name: intervals.estimate(table.statistic(), table.units)["mean_sensitivity"]
        for name, table in arms.items()
    }
    with new_figure(path, 5.0 + legend_width(len(arms)), 3.8, note) as figure:
        axes = figure.add_subplot()
        for name, style in arm_styles(means, "mean").items():
            _draw_curve(axes, arms[name], style, most_false, band=len(arms) <= MOST_BANDS)
        _froc_axes(axes, most_false)
        axes.set_title(title)
        arms_legend(axes, len(arms), "lower right")


def froc_panels_figure(
    systems: Mapping[str, Mapping[float, LesionTable]],
    path: str | os.PathLike,
    scored: Collection[str],
    note: str = "",
    by: Method = intervals,
    most_false: float = 16.0,
) -> None:
    """One panel for each epsilon, with all systems.

    Args:
        systems: name to its marks by epsilon in mm; the same epsilons for all.
        scored: systems whose marks have confidences, drawn as curves; others as points.
        by: method for the intervals.
    """
    epsilons = list(next(iter(systems.values())))
    with new_figure(path, 0.6 + 2.9 * len(epsilons), 3.6, note) as figure:
        panels = figure.subplots(1, len(epsilons), sharey=True, squeeze=False)[0]
        for axes, epsilon in zip(panels, epsilons, strict=True):
            for index, (name, tables) in enumerate(systems.items()):
                style = {**arm_style(index), "label": name}
                if name in scored:
                    _draw_curve(axes, tables[epsilon], style, most_false, by)
                else:
                    _draw_point(axes, tables[epsilon], style, by)
            _froc_axes(axes, most_false, ends=False)
            axes.set_title(f"within {epsilon:g} mm" if epsilon else "inside (0 mm)")
        for axes in panels[1:]:
            axes.set_ylabel("")
        panels[-1].legend(loc="lower right", handlelength=2.6)


def _draw_curve(
    axes: Axes,
    table: LesionTable,
    style: Mapping[str, Any],
    most_false: float,
    by: Method = intervals,
    band: bool = True,
) -> None:
    """Draw the curve up to the last false positive, with a dot at its end, and its band."""
    end = len(table.false_patient) / table.scans.sum()
    rates = np.geomspace(_LEAST, min(max(end, _LEAST * 1.01), most_false), _POINTS)
    found = by.estimate(table.statistic(rates.tolist()), table.units)
    curve = [found[f"sensitivity_at_{rate:g}"] for rate in rates]
    if band:
        low, high = ([getattr(point, side) for point in curve] for side in ("low", "high"))
        axes.fill_between(rates, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.plot(rates, [point.value for point in curve], **style)
    if end <= most_false:
        axes.plot(rates[-1], curve[-1].value, "o", color=style["color"], ms=4)


def _draw_point(
    axes: Axes, table: LesionTable, style: Mapping[str, Any], by: Method = intervals
) -> None:
    """Draw marks without confidences: one point, with intervals in both directions."""
    found = by.estimate(table.totals(), table.units)
    x, y = found["false_positives_per_scan"], found["recall"]
    where = max(x.value, _LEAST)
    reach = [[[max(0.0, where - x.low)], [max(0.0, x.high - where)]], _reach(y)]
    if math.isnan(x.low):
        reach[0] = [[0.0], [0.0]]
    marker = {"color": style["color"], "label": style["label"], "capsize": 3, "ms": 6}
    axes.errorbar([where], [y.value], xerr=reach[0], yerr=reach[1], fmt="o", **marker)


def _reach(found: Estimate) -> list[list[float]]:
    if math.isnan(found.low):
        return [[0.0], [0.0]]
    return [[found.value - found.low], [found.high - found.value]]


def _froc_axes(axes: Axes, most_false: float, ends: bool = True) -> None:
    """Set up the axes of a curve; without ``ends``, no tick labels at the ends, for panels."""
    axes.set_xscale("log", base=2)
    ticks = [rate for rate in _TICKS if rate < most_false or (ends and rate == most_false)]
    ticks = ticks if ends else ticks[1:]
    axes.set_xticks(ticks, [f"{rate:g}" for rate in ticks])
    axes.minorticks_off()
    axes.set(xlim=(_LEAST, most_false), ylim=(0, 1.02))
    axes.set(xlabel="False positives per scan", ylabel="Sensitivity over emboli")
