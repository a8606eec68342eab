"""All figures of the evaluation.

Each function takes arrays or dicts and a path and writes the file atomically. The footer has the
given note ("synthetic data") and says that this is research software. Bands and bars are 95 %
intervals over patients, except in reliability curves.
"""

from pe_unified.evaluation.figures.arms import (
    curve_figure,
    difference_figure,
    seed_figure,
    step_figure,
)
from pe_unified.evaluation.figures.curves import precision_recall_figure, roc_figure
from pe_unified.evaluation.figures.exams import draw_exams, exam_roc_figure, reliability_figure
from pe_unified.evaluation.figures.flow import flow_figure
from pe_unified.evaluation.figures.froc import froc_figure, froc_panels_figure
from pe_unified.evaluation.figures.heat import HeatView, heat_figure
from pe_unified.evaluation.figures.learning import learning_figure
from pe_unified.evaluation.figures.overlays import SliceView, montage_figure, overlay_figure

__all__ = [
    "HeatView",
    "SliceView",
    "curve_figure",
    "difference_figure",
    "draw_exams",
    "exam_roc_figure",
    "flow_figure",
    "froc_figure",
    "froc_panels_figure",
    "heat_figure",
    "learning_figure",
    "montage_figure",
    "overlay_figure",
    "precision_recall_figure",
    "reliability_figure",
    "roc_figure",
    "seed_figure",
    "step_figure",
]
