"""Comparison of arms: bars by step, spread over seeds, paired differences."""

import math
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pe_unified.evaluation.figures.style import (
    FAINT,
    INK,
    REUSED_COLOUR,
    SCRATCH_COLOUR,
    arm_style,
    new_figure,
)
from pe_unified.evaluation.in_words import difference_in_words, interval_in_words
from pe_unified.evaluation.intervals import Difference, Estimate, FloatArray
from pe_unified.tasks import METRIC_NAMES

#: Numbers are placed to the right of a panel, at the height of their row.
_BESIDE: Any = ("axes fraction", "data")
#: Markers of differences, by what is equal in both arms.
_FORMS = {
    "step": ("o", "equal iterations of the step: with reuse, more in all"),
    "total": ("s", "equal iterations in all"),
    "neither": ("^", "neither equal"),
}


def step_figure(
    steps: Sequence[Mapping[str, Any]],
    path: str | os.PathLike,
    metrics: Sequence[str] = ("seg/iou", "seg/dice"),
    note: str = "",
) -> None:
    """One bar per step and metric; colour and hatch distinguish reused arms from scratch arms.

    Args:
        steps: as in ``summary.json``: ``name``, ``reused`` (empty for arms that start from ImageNet
            or scratch), ``metrics`` with ``<key>_ci``. Steps without a metric have no bar in its
            panel; a null value is shown as "undefined".
    """
    shown = [step for step in steps if any(key in step["metrics"] for key in metrics)]
    if not shown:
        raise ValueError(f"no step has any of {', '.join(metrics)}")
    width = max(5.6, 1.6 + 3.3 * len(metrics))
    with new_figure(path, width, 1.1 + 0.36 * len(shown), note) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(metrics), sharey=True))
        for axes, key in zip(panels, metrics):
            for row, step in enumerate(shown):
                if key in step["metrics"]:
                    _bar(axes, row, step, key)
            axes.set(xlim=(0, 1.0), title=METRIC_NAMES.get(key, key))
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(shown)), [step["name"] for step in shown])
        panels[0].set_ylim(len(shown) - 0.4, -0.6)
        handles: list[Artist] = [
            Patch(facecolor=SCRATCH_COLOUR, label="from ImageNet or scratch"),
            Patch(facecolor=REUSED_COLOUR, hatch="////", ec="white", label="reused weights"),
        ]
        if any(f"{key}_ci" in step["metrics"] for step in shown for key in metrics):
            handles.append(Line2D([], [], color=INK, lw=1.2, label="95 % interval over patients"))
        figure.legend(handles=handles, loc="outside upper left", ncols=3, columnspacing=1.4)


def seed_figure(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    path: str | os.PathLike,
    reused: Sequence[str] = (),
    note: str = "",
) -> None:
    """One dot per seed and arm, a bar at the mean.

    Lines join the seeds of a scratch arm with those of a reused arm that follows it.

    Args:
        values: metric to arm to one value per seed, seeds in the same order in every arm.
        reused: names of the arms that start from earlier steps.
    """
    if not values:
        raise ValueError("there is no metric to draw")
    columns = [0.6 + 0.75 * len(arms) for arms in values.values()]
    longest = max(len(arm) for arms in values.values() for arm in arms)
    slant = longest > 9
    height = 3.2 + (0.045 * longest if slant else 0.0)
    with new_figure(path, max(sum(columns), 3.2), height, note) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(values), width_ratios=columns))
        for axes, (key, arms) in zip(panels, values.items()):
            _seeds(axes, {arm: np.array([_number(v) for v in arms[arm]]) for arm in arms}, reused)
            axes.set(title=METRIC_NAMES.get(key, key))
            if slant:
                axes.tick_params(axis="x", labelrotation=30)
                for label in axes.get_xticklabels():
                    label.set(ha="right", rotation_mode="anchor")
        figure.legend(
            handles=[
                Line2D([], [], marker="o", color=FAINT, linestyle="", label="one seed"),
                Line2D([], [], color=INK, linewidth=1.6, label="mean over seeds"),
            ],
            loc="outside upper left",
            ncols=2,
        )


def _seeds(axes: Axes, arms: Mapping[str, FloatArray], reused: Sequence[str]) -> None:
    """One column of dots per arm."""
    runs = list(arms.values())
    spread = [0.06 * (np.arange(len(run)) - (len(run) - 1) / 2) for run in runs]
    for left, (arm, follower) in enumerate(pairwise(arms)):
        right = left + 1
        pairs = arm not in reused and follower in reused and len(runs[left]) == len(runs[right])
        if pairs:
            columns = np.array([left + spread[left], right + spread[right]])
            axes.plot(columns, np.array(runs[left : right + 1]), color="#BDBDBD", lw=0.9, zorder=1)
    for column, (arm, run) in enumerate(arms.items()):
        colour, marker = (REUSED_COLOUR, "s") if arm in reused else (SCRATCH_COLOUR, "o")
        axes.plot(column + spread[column], run, marker, color=colour, mec="white", ms=6, zorder=3)
        defined = run[~np.isnan(run)]
        if len(defined):
            mean = defined.mean()
            axes.hlines(mean, column - 0.26, column + 0.26, color=INK, linewidth=1.6, zorder=2)
            axes.annotate(f"{mean:.3f}", (column + 0.29, mean), va="center", fontsize=8)
    axes.set_xticks(range(len(arms)), list(arms))
    axes.set_xlim(-0.5, len(arms) - 0.2)
    axes.margins(y=0.15)
    axes.grid(axis="x", visible=False)


def difference_figure(
    differences: Mapping[str, Difference],
    path: str | os.PathLike,
    note: str = "",
    title: str = "Difference",
    seeds: Mapping[str, Sequence[float]] | None = None,
    equal: Mapping[str, str] | None = None,
) -> None:
    """Paired differences with intervals; right of the line reuse gains, left of it it loses.

    A dot is filled if the interval excludes zero and every seed is on the same side: an interval
    over patients does not show how another seed would turn out. Labels that agree up to their last
    " - " form a group: one reused arm against several.

    Args:
        differences: metric (or any label) to the result of :func:`paired_difference`.
        seeds: by the same labels, the difference of every seed, shown as ticks.
        equal: by the same labels, which part of the training is equal in both arms, shown by the
            marker: ``"step"``, ``"total"`` or ``"neither"``.
    """
    if not differences:
        raise ValueError("there is no difference to draw")
    longest = max(len(METRIC_NAMES.get(key, key)) for key in differences)
    rows = _rows(list(differences))
    lines = 3 if equal else 1
    height = 0.95 + 0.15 * lines + 0.34 * (rows[-1] + 1)
    with new_figure(path, 4.6 + 0.065 * longest, height, note) as figure:
        axes = figure.add_subplot()
        axes.axvline(0, color=FAINT, linewidth=1.0)
        reach = 0.01
        for row, (name, found) in zip(rows, differences.items()):
            ends = np.array([found.low, found.high, *(seeds or {}).get(name, ())])
            clear = bool((ends > 0).all() or (ends < 0).all())
            colour = REUSED_COLOUR if found.value > 0 else SCRATCH_COLOUR
            axes.plot([found.low, found.high], [row, row], color=colour, linewidth=2.0)
            axes.plot(ends[2:], [row] * len(ends[2:]), "|", color=INK, ms=9, mew=1.1)
            form = _FORMS[equal[name]][0] if equal else "o"
            axes.plot(found.value, row, form, color=colour if clear else "white", mec=colour, ms=7)
            text = difference_in_words(found.value, found.low, found.high)
            text = text.replace("-", "\N{MINUS SIGN}")
            axes.annotate(text, (1.03, row), xycoords=_BESIDE, va="center", fontsize=8)
            reach = max(reach, *np.abs(np.nan_to_num([found.value, *ends])))
        axes.set_yticks(rows, [METRIC_NAMES.get(k, k) for k in differences])
        axes.set(xlim=(-1.08 * reach, 1.08 * reach), ylim=(rows[-1] + 0.5, -0.5))
        axes.set(xlabel="Difference on the same patients, 95 % interval over them", title=title)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        filled = "interval without zero" + (", every seed on its side" if seeds else "")
        handles = [Line2D([], [], marker="o", color=INK, linestyle="", label=filled)]
        if seeds:
            one = Line2D([], [], marker="|", color=INK, linestyle="", ms=9, label="one seed")
            handles.append(one)
        used = [kind for kind in _FORMS if kind in (equal or {}).values()]
        for form, said in (_FORMS[kind] for kind in used):
            dot = Line2D([], [], marker=form, color="white", mec=INK, linestyle="", label=said)
            handles.append(dot)
        figure.legend(handles=handles, loc="outside upper left", ncols=1 if equal else 2)


def _rows(labels: Sequence[str]) -> list[float]:
    """Heights of the labels, with a gap between groups."""
    groups = [label.rpartition(" - ")[0] or label for label in labels]
    heights = [0.0]
    for before, now in pairwise(groups):
        heights.append(heights[-1] + (1.0 if before == now or " - " not in labels[0] else 1.45))
    return heights


def _bar(axes: Axes, row: int, step: Mapping[str, Any], key: str) -> None:
    """One bar with its interval, and both as numbers next to the panel."""
    value = _number(step["metrics"][key])
    low, high = (_number(end) for end in step["metrics"].get(f"{key}_ci") or (None, None))
    if math.isnan(value):
        axes.annotate("undefined", (0.01, row), va="center", fontsize=8, color=FAINT)
        return
    style: dict[str, Any] = {"color": SCRATCH_COLOUR}
    if step["reused"]:
        style = {"facecolor": REUSED_COLOUR, "hatch": "////", "edgecolor": "white"}
    axes.barh(row, value, height=0.62, linewidth=0, **style)
    if not math.isnan(low):
        axes.hlines(row, low, high, color=INK, linewidth=1.2)
        axes.vlines([low, high], row - 0.12, row + 0.12, color=INK, linewidth=1.2)
    text = interval_in_words(value, low, high, digits=2)
    axes.annotate(text, (1.03, row), xycoords=_BESIDE, va="center", fontsize=8)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def curve_figure(
    points: Mapping[str, Sequence[tuple[float, Estimate]]],
    path: str | os.PathLike,
    x_label: str,
    note: str = "",
) -> None:
    """Metrics against a setting, with intervals over patients as bands.

    Args:
        points: metric to (value of the setting, estimate), by ascending value.

    Raises:
        ValueError: there is no point.
    """
    if not any(points.values()):
        raise ValueError("there is no point to draw")
    with new_figure(path, 4.8, 3.2 + 0.18 * len(points), note) as figure:
        axes = figure.subplots()
        for number, (key, own) in enumerate(points.items()):
            style = arm_style(number)
            x = [place for place, _ in own]
            axes.plot(
                x,
                [found.value for _, found in own],
                marker="o",
                ms=5,
                mec="white",
                label=METRIC_NAMES.get(key, key),
                **style,
            )
            low, high = ([getattr(found, end) for _, found in own] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.set(xlabel=x_label)
        axes.set_ylim(top=min(1.02, axes.get_ylim()[1]))
        figure.legend(loc="outside upper left", handlelength=2.6)
