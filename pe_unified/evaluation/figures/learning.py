"""Learning curves."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist

from pe_unified.evaluation.figures.style import arm_style, new_figure
from pe_unified.tasks import METRIC_NAMES


def learning_figure(
    curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    metrics: Sequence[str],
    path: str | os.PathLike,
    note: str = "",
) -> None:
    """Validation metrics over minutes of training, one panel for each metric that any arm has.

    Lines are means over an arm's runs; bands span the lowest to the highest run.

    Args:
        curves: by arm, the points of each of its runs: ``seconds`` and metrics by key. Runs of an
            arm have the same number of points.
        metrics: keys of the metrics to draw.

    Raises:
        ValueError: no arm has any of the metrics.
    """
    every = [point for runs in curves.values() for run in runs for point in run]
    shown = [key for key in metrics if any(key in point for point in every)]
    if not shown:
        raise ValueError(f"no curve has any of {', '.join(metrics)}")
    said = f"Validation, means of the runs with lowest and highest. {note}".strip()
    lines: dict[str, Artist] = {}
    with new_figure(path, 3.6 * len(shown) + 0.6, 3.6, said) as figure:
        for key, axes in zip(shown, figure.subplots(1, len(shown), squeeze=False)[0], strict=True):
            for number, (arm, runs) in enumerate(curves.items()):
                if not all(key in point for run in runs for point in run):
                    continue
                minutes = np.mean([[point["seconds"] for point in run] for run in runs], 0) / 60
                values = np.array([[point[key] for point in run] for run in runs], float)
                style = arm_style(number)
                mean = values.mean(0)
                (lines[arm],) = axes.plot(minutes, mean, marker="o", markersize=3, **style)
                axes.fill_between(
                    minutes, values.min(0), values.max(0), color=style["color"], alpha=0.15, lw=0
                )
            axes.set(title=METRIC_NAMES[key], xlabel="minutes of training", xlim=(0, None))
        figure.legend(
            list(lines.values()), list(lines), loc="outside upper left", ncols=2 * len(shown)
        )
