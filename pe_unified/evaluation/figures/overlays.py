"""Slices with outlines of truth (solid, blue) and prediction (dashed, orange).

Colour-blind readers can distinguish both colours from grey and from each other, and line styles
work without colour. Emboli are small in a whole slice, so their surroundings are also shown
enlarged.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from skimage.measure import find_contours, label, regionprops

from pe_unified.ct.hu import read_slice_png
from pe_unified.ct.windows import Window, apply_window, resolve_window
from pe_unified.evaluation.figures.style import new_figure
from pe_unified.evaluation.intervals import FloatArray

if TYPE_CHECKING:
    import torch
    from mmengine.structures import BaseDataElement

TRUTH_COLOUR, PREDICTED_COLOUR = "#56B4E9", "#F5A000"
#: Line styles, as matplotlib takes them.
_TRUTH_LINE: Any = "-"
_PREDICTED_LINE: Any = (0, (3, 1.4))
#: Smallest side of the enlarged part, pixels.
_LEAST_SIDE = 32.0


def _no_boxes() -> FloatArray:
    return np.zeros((0, 4))


@dataclass(frozen=True)
class SliceView:
    """One slice to show; None means unknown or not predicted.

    Fields:
        hu: (rows, cols), Hounsfield units.
        patient: its name.
        slice_index: its index in the series.
        truth_mask, predicted_mask: bool (rows, cols).
        truth_boxes, predicted_boxes: (n, 4), x1 y1 x2 y2 in pixels, x2 and y2 exclusive.
        box_scores: (n,), scores of the predicted boxes.
        label: whether the slice shows embolism.
        probability: predicted probability of embolism on the slice.
        region: x0 y0 x1 y1 of the part to show, the whole slice by default.
        focus: x0 y0 x1 y1 of the object to enlarge; the largest embolus by default.
    """

    hu: NDArray[np.int16]
    patient: str
    slice_index: int | None = None
    truth_mask: NDArray[np.bool_] | None = None
    predicted_mask: NDArray[np.bool_] | None = None
    truth_boxes: FloatArray = field(default_factory=_no_boxes)
    predicted_boxes: FloatArray = field(default_factory=_no_boxes)
    box_scores: FloatArray = field(default_factory=lambda: np.zeros(0))
    label: bool | None = None
    probability: float | None = None
    region: tuple[int, int, int, int] | None = None
    focus: tuple[float, float, float, float] | None = None

    @classmethod
    def of_sample(
        cls, sample: "BaseDataElement", seg_threshold: float = 0.5, det_threshold: float = 0.5
    ) -> "SliceView":
        """From a predicted ``PEDataSample``, at thresholds; the slice is read from ``img_path``."""
        fields: dict = {}
        if "gt_label" in sample:
            fields["label"] = bool(sample.gt_label.item())
        if "gt_sem_seg" in sample:
            fields["truth_mask"] = sample.gt_sem_seg.data[0].cpu().numpy() != 0
        if "gt_instances" in sample:
            fields["truth_boxes"] = _boxes(sample.gt_instances.bboxes)
        if "pred_score" in sample:
            fields["probability"] = float(sample.pred_score[1])
        if "seg_prob" in sample:
            fields["predicted_mask"] = (
                sample.seg_prob.data[0].float().cpu().numpy() >= seg_threshold
            )
        if "pred_instances" in sample:
            scores = sample.pred_instances.scores.detach().float().cpu().numpy()
            kept = scores >= det_threshold
            fields["predicted_boxes"] = _boxes(sample.pred_instances.bboxes)[kept]
            fields["box_scores"] = scores[kept]
        return cls(
            hu=read_slice_png(sample.img_path),
            patient=str(sample.patient_id),
            slice_index=sample.get("slice_index"),
            region=sample.get("crop_box"),
            **fields,
        )

    @property
    def caption(self) -> str:
        """Two lines: patient and slice; truth and probability."""
        first = self.patient
        if self.slice_index is not None:
            first += f", slice {self.slice_index}"
        known = {None: "label unknown", True: "embolism", False: "no embolism"}[self.label]
        if self.probability is None:
            return f"{first}\n{known}"
        return f"{first}\n{known}, predicted {self.probability:.2f}"


def overlay_figure(
    view: SliceView, path: str | os.PathLike, window: str | Window = "pe", note: str = ""
) -> None:
    """One large slice; layout as in :func:`montage_figure`."""
    _write([view], path, 1, window, note, inches=3.6)


def montage_figure(
    views: Sequence[SliceView],
    path: str | os.PathLike,
    window: str | Window = "pe",
    columns: int = 3,
    note: str = "",
) -> None:
    """Many slices in rows of ``columns``.

    Each shows the slice with outlines. Next to it are the enlarged surroundings of the largest
    embolus (or of the best prediction): plain above, outlined below.
    """
    if not views:
        raise ValueError("there is no slice to show")
    _write(views, path, columns, window, note, inches=2.1)


def _write(
    views: Sequence[SliceView],
    path: str | os.PathLike,
    columns: int,
    window: str | Window,
    note: str,
    inches: float,
) -> None:
    """Draw the slices in a manual layout: pictures of ``inches`` height, close together."""
    columns = min(columns, len(views))
    rows = math.ceil(len(views) / columns)
    regions = [region_of(view) for view in views]
    wide = inches * max((x1 - x0) / (y1 - y0) for x0, y0, x1, y1 in regions)
    gap, margin, heading, legend = 0.03, 0.12, 0.38, 0.34
    small = (inches - gap) / 2
    cell = wide + gap + small + 2 * margin
    height = legend + rows * (heading + inches) + margin
    said = with_window(note, window)
    with new_figure(path, max(columns * cell, 4.4), height, said) as figure:
        figure.set_layout_engine("none")
        width, total = figure.get_size_inches()

        def place(left: float, top: float, across: float, down: float) -> Axes:
            rect = (left / width, 1 - (top + down) / total, across / width, down / total)
            axes = figure.add_axes(rect, facecolor="black", anchor="W")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.grid(visible=False)
            return axes

        for number, view in enumerate(views):
            left = (number % columns) * cell + margin
            top = legend + (number // columns) * (heading + inches) + heading
            whole = place(left, top, wide, inches)
            whole.set_title(view.caption, fontsize=7.5, fontweight="normal", pad=3)
            show_slice(whole, view, regions[number], window, line_width=1.0)
            near = _surroundings(view, regions[number])
            if near is None:
                continue
            x0, y0, x1, y1 = near
            frame = Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec="w", lw=0.7)
            whole.add_patch(frame)
            left += wide + gap
            show_slice(place(left, top, small, small), view, near, window, line_width=0.0)
            top += small + gap
            show_slice(place(left, top, small, small), view, near, window, line_width=1.4)
        _legend(figure, margin / width, 1 - 0.05 / total)


def show_slice(
    axes: Axes,
    view: SliceView,
    region: tuple[float, float, float, float],
    window: str | Window,
    line_width: float,
) -> None:
    """One part of a slice, outlined unless ``line_width`` is 0."""
    x0, y0, x1, y1 = region
    grey = apply_window(view.hu, window)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    axes.set(xlim=(x0 - 0.5, x1 - 0.5), ylim=(y1 - 0.5, y0 - 0.5))
    if not line_width:
        return
    for mask, boxes, colour, line in (
        (view.truth_mask, view.truth_boxes, TRUTH_COLOUR, _TRUTH_LINE),
        (view.predicted_mask, view.predicted_boxes, PREDICTED_COLOUR, _PREDICTED_LINE),
    ):
        if mask is not None and mask.any():
            for contour in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
                ys, xs = contour.T - 1
                axes.plot(xs, ys, color=colour, linestyle=line, linewidth=line_width)
        for bx0, by0, bx1, by1 in boxes:
            box = Rectangle((bx0 - 0.5, by0 - 0.5), bx1 - bx0, by1 - by0, fill=False)
            box.set(edgecolor=colour, linestyle=line, linewidth=0.65 * line_width)
            axes.add_patch(box)
    if line_width > 1:
        for (bx0, by0, *_), score in zip(view.predicted_boxes, view.box_scores):
            text = axes.text(bx0 - 0.5, by0 - 0.9, f"{score:.2f}", fontsize=6.5, clip_on=True)
            text.set(
                color=PREDICTED_COLOUR, path_effects=[withStroke(linewidth=1.6, foreground="black")]
            )


def region_of(view: SliceView) -> tuple[float, float, float, float]:
    rows, cols = view.hu.shape
    return view.region or (0, 0, cols, rows)


def _surroundings(
    view: SliceView, region: tuple[float, float, float, float]
) -> tuple[float, float, float, float] | None:
    """A square around the largest true embolus, else the best prediction; None for neither."""
    focus = view.focus
    for mask, boxes, rank in (
        (view.truth_mask, view.truth_boxes, _areas(view.truth_boxes)),
        (view.predicted_mask, view.predicted_boxes, view.box_scores),
    ):
        if focus is None and not len(boxes) and mask is not None and mask.any():
            found = [part.bbox for part in regionprops(label(mask))]
            boxes = np.array([(col0, row0, col1, row1) for row0, col0, row1, col1 in found])
            rank = _areas(boxes)
        if focus is None and len(boxes):
            focus = boxes[int(np.argmax(rank))]
    if focus is None:
        return None
    x0, y0, x1, y1 = region
    longest = max(focus[2] - focus[0], focus[3] - focus[1])
    side = min(max(2.5 * longest, _LEAST_SIDE), x1 - x0, y1 - y0)
    left = min(max((focus[0] + focus[2] - side) / 2, x0), x1 - side)
    top = min(max((focus[1] + focus[3] - side) / 2, y0), y1 - side)
    return left, top, left + side, top + side


def _areas(boxes: FloatArray) -> FloatArray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _legend(figure: Figure, left: float, top: float) -> None:
    lines = (
        (TRUTH_COLOUR, _TRUTH_LINE, "truth"),
        (PREDICTED_COLOUR, _PREDICTED_LINE, "predicted, boxes with score"),
    )
    handles = [
        Line2D([], [], color=c, linestyle=line, lw=1.8, label=name) for c, line, name in lines
    ]
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(left, top), ncols=2, borderaxespad=0
    )


def with_window(note: str, window: str | Window) -> str:
    """A note with the window in which slices are shown."""
    shown = resolve_window(window)
    name = f"{window} " if isinstance(window, str) else ""
    seen = f"Seen through the {name}window, level {shown.level:g} HU, width {shown.width:g} HU"
    return f"{note.rstrip(' .')}. {seen}" if note else seen


def _boxes(boxes: "torch.Tensor") -> FloatArray:
    tensor = getattr(boxes, "tensor", boxes)
    return tensor.detach().double().cpu().numpy().reshape(-1, 4)
