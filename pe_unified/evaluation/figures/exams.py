"""Figures of exams: reliability curves, and a ROC curve for every label."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.stats import binomtest

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.evaluation.calibration import reliability_curve
from pe_unified.evaluation.exams import POSITIVE, ExamTable
from pe_unified.evaluation.figures.curves import draw_chance, draw_roc
from pe_unified.evaluation.figures.style import arm_style, new_figure, unit_axes
from pe_unified.evaluation.in_words import interval_in_words, with_interval
from pe_unified.evaluation.intervals import LEVEL, RESAMPLES, Estimate, estimate, with_ends
from pe_unified.evaluation.slices import SliceTable
from pe_unified.tasks import METRIC_NAMES

#: Panels per row, and largest number of arms whose intervals fit into one.
_COLUMNS, _MOST_INTERVALS = 5, 3
#: Height of a line of a legend, inches.
_LEGEND_LINE = 0.18
#: Bin edges of the histogram below a reliability curve.
_HISTOGRAM = np.linspace(0, 1, 21)


def reliability_figure(
    arms: Mapping[str, ExamTable],
    path: str | os.PathLike,
    note: str = "",
    title: str = "Exams with pulmonary embolism",
    resamples: int = RESAMPLES,
) -> None:
    """Share of positive exams against the predicted probability, in ten bins of equal count.

    Probabilities are those that reports show, after the calibration of validation; on the diagonal
    they are perfectly calibrated. Bars are 95 % Wilson intervals, which assume independent exams: a
    bin has too few patients for intervals over patients. Below is a histogram of the probabilities.

    Args:
        arms: name to the exams of its test split.
    """
    with new_figure(path, 4.6, 5.2 + _LEGEND_LINE * len(arms), note) as figure:
        curve, below = figure.subplots(2, 1, sharex=True, height_ratios=(4.2, 1))
        draw_chance(curve)
        for index, (name, arm) in enumerate(arms.items()):
            style, table = arm_style(index), arm.calibrated()
            if not len(table.label):
                curve.plot([], [], label=f"{name}: no labelled exam with an answer", **style)
                continue
            said = with_ends(estimate(arm.statistic(0.5), table.units, resamples))
            ece, brier = (with_interval(said, key) for key in ("ece", "brier"))
            style["label"] = f"{name}: ECE {ece}, Brier {brier}"
            _draw_bins(curve, table, style)
            colour = style["color"]
            below.hist(table.score, _HISTOGRAM, histtype="step", color=colour, linewidth=1.3)
        unit_axes(curve, "", "Share of positive exams")
        curve.set_aspect("auto")
        curve.set_title(title)
        below.set(xlabel="Predicted probability, as in reports", ylabel="Exams")
        below.grid(axis="x", visible=False)
        figure.align_ylabels()
        figure.legend(loc="outside upper left", handlelength=2.6)


def _draw_bins(axes: Axes, table: SliceTable, style: Mapping[str, Any]) -> None:
    found = reliability_curve(table.label, table.score)
    for x, share, count in zip(found.probability, found.share, found.count):
        counted = binomtest(round(share * count), int(count))
        low, high = counted.proportion_ci(LEVEL, method="wilson")
        axes.plot([x, x], [low, high], color=style["color"], linewidth=1, alpha=0.7)
    axes.plot(found.probability, found.share, marker="o", ms=4.5, mec="white", mew=0.6, **style)


def draw_exams(arms: Mapping[str, ExamTable], folder: str | os.PathLike, note: str = "") -> None:
    """Draw ``reliability.png`` and, if there are exams of both classes, ``exam_roc.png``."""
    reliability_figure(arms, Path(folder, "reliability.png"), note)
    if _of_both_classes(arms, EXAM_TARGETS):
        exam_roc_figure(arms, Path(folder, "exam_roc.png"), note=note)


def _of_both_classes(
    arms: Mapping[str, ExamTable], targets: Sequence[str]
) -> dict[str, list[SliceTable]]:
    """The exams of each arm, for every target that has predicted exams of both classes."""
    tables = {target: [arm.of(target) for arm in arms.values()] for target in targets}
    return {
        target: own
        for target, own in tables.items()
        if any(0 < table.label.sum() < len(table.label) for table in own)
    }


def exam_roc_figure(
    arms: Mapping[str, ExamTable],
    path: str | os.PathLike,
    targets: Sequence[str] = EXAM_TARGETS,
    note: str = "",
    resamples: int = RESAMPLES,
) -> None:
    """A ROC curve for each label of an exam, with the AUC in the corner.

    Labels are left out if no arm has known and predicted exams of both classes. The curves have no
    bands: leaving one exam out says little about a single point. More than three arms have no
    intervals either.

    Args:
        arms: name to the exams of its test split.
        targets: some of EXAM_TARGETS, in the order of the panels.

    Raises:
        ValueError: no label is left.
    """
    shown = _of_both_classes(arms, targets)
    if not shown:
        raise ValueError(
            f"exams of both classes with an answer are needed for one of {', '.join(targets)}"
        )
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    across = min(4, columns)
    height = 0.4 + 2.15 * rows + _LEGEND_LINE * math.ceil(len(arms) / across)
    with new_figure(path, max(3.2, 0.5 + 2.1 * columns), height, note) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for number, (axes, (target, own)) in enumerate(zip(panels, shown.items())):
            _roc_panel(axes, own, resamples)
            axes.set_title(label_title(target), fontsize=9)
            if number % columns == 0:
                axes.set_ylabel("Sensitivity")
            if number + columns >= len(shown):
                axes.set_xlabel("1 − specificity")
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        lines = [Line2D([], [], label=name, **arm_style(i)) for i, name in enumerate(arms)]
        figure.legend(handles=lines, loc="outside upper left", ncols=across, handlelength=2.6)


def _roc_panel(axes: Axes, arms: Sequence[SliceTable], resamples: int) -> None:
    draw_chance(axes)
    for index, table in enumerate(arms):
        area = estimate(table.statistic(0.5), table.units, resamples)["auc"]
        if math.isnan(area.value):
            continue
        style = {**arm_style(index), "linewidth": 1.4}
        draw_roc(axes, table, style, resamples=0)
        if len(arms) > _MOST_INTERVALS:
            area = Estimate(area.value, math.nan, math.nan)
        height = 0.03 + 0.09 * (len(arms) - 1 - index)
        said = interval_in_words(area.value, area.low, area.high, digits=2)
        axes.text(0.99, height, said, color=style["color"], fontsize=7.5, ha="right")
    unit_axes(axes, "", "")
    axes.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))


def label_title(target: str) -> str:
    """One of EXAM_TARGETS in words."""
    if target == POSITIVE:
        return "Positive exam"
    name = METRIC_NAMES[f"exam/auc_{target}"].removeprefix("AUC, ")
    return name[0].upper() + name[1:]
