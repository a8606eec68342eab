"""An image of a mask that does not fit: where it is, and where it would fit."""

from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from pe_unified.ct.study import CTStudy
from pe_unified.ct.windows import window_to_uint8
from pe_unified.evaluation.figures.style import new_figure

_LAID, _BETTER = "#F5A000", "#56B4E9"
_INCHES = 5.0


def draw_misfit(
    path: Path, study: CTStudy, values: np.ndarray, better: np.ndarray | None, title: str
) -> None:
    """Draw the slice with most of the mask and, if there is a better position, the same for that.

    Args:
        path: of the PNG.
        values: (slices, rows, cols), as the mask was placed.
        better: the same in the position where it would fit.
        title: one line.
    """
    shown = [values] if better is None else [values, better]
    panels = list(dict.fromkeys(int((each > 0).sum(axis=(1, 2)).argmax()) for each in shown))
    aspect = (study.known_spacing()[0] * study.shape[1]) / (
        study.known_spacing()[1] * study.shape[2]
    )
    with new_figure(path, _INCHES * len(panels), _INCHES * min(aspect, 2.0) + 0.5) as figure:
        for place, index in enumerate(panels, start=1):
            axes = figure.add_subplot(1, len(panels), place)
            axes.imshow(
                window_to_uint8(study.slice_hu(index), "mediastinal"),
                cmap="gray",
                aspect=study.known_spacing()[0] / study.known_spacing()[1],
            )
            for mask, colour, line in ((values, _LAID, "-"), (better, _BETTER, "--")):
                if mask is not None and mask[index].any():
                    axes.contour(mask[index] > 0, levels=[0.5], colors=colour, linestyles=line)
            axes.set_axis_off()
            axes.set_title(f"slice {index}")
        lines = [Line2D([], [], color=_LAID, label="the mask as it is")]
        if better is not None:
            lines.append(Line2D([], [], color=_BETTER, linestyle="--", label="where it would fit"))
        figure.legend(handles=lines, loc="outside upper right", ncols=2)
        figure.suptitle(title, x=0.01, ha="left")
