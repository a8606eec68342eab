"""Curves over all thresholds: ROC and precision-recall."""

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pe_unified.evaluation.detection import DetTable, precision_recall_points
from pe_unified.evaluation.figures.style import (
    FAINT,
    MOST_BANDS,
    arm_styles,
    arms_legend,
    legend_width,
    new_figure,
    unit_axes,
)
from pe_unified.evaluation.intervals import (
    LEVEL,
    RESAMPLES,
    FloatArray,
    estimate,
    interval_ends,
    subset_weights,
)
from pe_unified.evaluation.slices import SliceTable, roc_points

#: False-positive rates at which the band of a ROC curve is drawn.
_RATES = np.linspace(0.0, 1.0, 101)


def roc_figure(
    arms: Mapping[str, SliceTable],
    path: str | os.PathLike,
    thresholds: Mapping[str, float] | None = None,
    note: str = "",
    title: str = "Slices with pulmonary embolism",
    resamples: int = RESAMPLES,
) -> None:
    """ROC curves with interval bands and the AUC in the legend.

    More than three arms have no bands: they would hide each other and the curves. Of more than
    eight, only the best are named.

    Args:
        arms: name to the slices of its test split.
        thresholds: by arm, the operating point to mark with a dot.
    """
    areas = {
        name: estimate(table.statistic(0.5), table.units, resamples)["auc"]
        for name, table in arms.items()
    }
    with new_figure(path, 4.6 + legend_width(len(arms)), 4.4, note) as figure:
        axes = figure.add_subplot()
        for name, style in arm_styles(areas, "AUC").items():
            if math.isnan(areas[name].value):
                axes.plot([], [], **{**style, "label": f"{name}: one class only"})
                continue
            bands = resamples if len(arms) <= MOST_BANDS else 0
            points = draw_roc(axes, arms[name], style, bands)
            _mark(axes, *points, (thresholds or {}).get(name), style["color"])
        draw_chance(axes)
        unit_axes(axes, "1 − specificity", "Sensitivity")
        axes.set_title(title)
        arms_legend(axes, len(arms), "lower right")


def draw_chance(axes: Axes) -> None:
    """Draw the diagonal: the curve of chance, or of perfectly calibrated probabilities."""
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)


def draw_roc(
    axes: Axes, table: SliceTable, style: Mapping[str, Any], resamples: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw the curve of cases of both classes with its band; return :func:`roc_points`.

    Args:
        style: style of the line; the band has its colour.
        resamples: number of subsets of the patients; 0 draws no band.
    """
    points = roc_points(table.score, table.label)
    if resamples:
        low, high = roc_band(table, resamples)
        axes.fill_between(_RATES, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.plot(*points[:2], **style)
    return points


def roc_band(
    table: SliceTable, resamples: int, level: float = LEVEL
) -> tuple[FloatArray, FloatArray]:
    """Pointwise interval of the sensitivity at false-positive rates 0, 0.01 ... 1.

    Two arrays (101,); NaN with fewer than two patients, or if one patient has all slices of a
    class.
    """
    subsets = subset_weights(table.units, resamples)
    curves = []
    for weight in np.concatenate([np.ones((1, len(table.patients))), subsets]):
        fpr, sensitivity, _ = roc_points(table.score, table.label, weight[table.patient])
        defined = not np.isnan([fpr[-1], sensitivity[-1]]).any()
        curve = sensitivity[np.searchsorted(fpr, _RATES, side="right") - 1] if defined else np.nan
        curves.append(np.broadcast_to(curve, _RATES.shape))
    return interval_ends(curves[0], np.array(curves[1:]).reshape(-1, len(_RATES)), level)


def precision_recall_figure(
    arms: Mapping[str, DetTable],
    path: str | os.PathLike,
    thresholds: Mapping[str, float] | None = None,
    note: str = "",
    title: str = "Embolus boxes at IoU 0.5",
    resamples: int = RESAMPLES,
) -> None:
    """Precision against recall over all scores, with average precision in the legend.

    Args:
        arms: name to the detections of its test split.
        thresholds: by arm, the operating point to mark with a dot.
    """
    averages = {
        name: estimate(table.statistic(0.5), table.units, resamples)["mAP_50"]
        for name, table in arms.items()
    }
    with new_figure(path, 4.6 + legend_width(len(arms)), 4.4, note) as figure:
        axes = figure.add_subplot()
        for name, style in arm_styles(averages, "AP").items():
            table = arms[name]
            if not table.boxes.sum():
                axes.plot([], [], **{**style, "label": f"{name}: no embolus in the split"})
                continue
            recall, precision, cuts = precision_recall_points(table)
            axes.plot(recall, precision, **style)
            _mark(axes, recall, precision, cuts, (thresholds or {}).get(name), style["color"])
        unit_axes(axes, "Recall", "Precision")
        axes.set_title(title)
        arms_legend(axes, len(arms), "upper right")


def _mark(
    axes: Axes,
    x: FloatArray,
    y: FloatArray,
    cuts: FloatArray,
    threshold: float | None,
    colour: str,
) -> None:
    """Draw a dot at the operating point, if it is on the curve."""
    called = np.flatnonzero(cuts >= threshold) if threshold is not None else np.zeros(0, int)
    if len(called):
        axes.plot(x[called[-1]], y[called[-1]], "o", color=colour, mec="white", ms=7, zorder=5)
