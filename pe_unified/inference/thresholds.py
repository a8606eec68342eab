"""The operating thresholds of a model, as validation chose them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pe_unified.evaluation.slices import DEFAULT_THRESHOLD
from pe_unified.evaluation.verdict import threshold_as_written
from pe_unified.tasks import TASKS


@dataclass(frozen=True)
class Thresholds:
    """Operating thresholds; None if the checkpoint has none.

    Attributes:
        slice: best threshold on single slices; not used for the verdict on an exam.
        pixel: probability from which on a pixel is part of a lesion.
        box: score from which on a box is kept.
        gate: slices below it skip segmentation and detection.
        coarse_gate: a thin slice is only read if one of its two enclosing slices, which are read
            first, reaches it.
        exam: mean probability over 6 mm from which on a stretch of an exam is called.
        lesion: score from which on a lesion is called.
        origin: text on where they were chosen.
        coarse_origin: text on the data on which the coarse gate was chosen.
    """

    slice: float | None = None
    pixel: float | None = None
    box: float | None = None
    gate: float | None = None
    coarse_gate: float | None = None
    exam: float | None = None
    lesion: float | None = None
    origin: str = ""
    coarse_origin: str = ""

    @property
    def by_metric(self) -> dict[str, float]:
        """Thresholds of slices, pixels and boxes, or defaults, by the keys of their metrics."""
        chosen = {"cls": self.slice, "seg": self.pixel, "det": self.box}
        return {
            f"{task}/threshold": DEFAULT_THRESHOLD if value is None else value
            for task, value in chosen.items()
        }


def thresholds_of(chosen: Mapping[str, Any], tasks: Collection[str]) -> Thresholds:
    """The thresholds that validation chose for these tasks; ``chosen`` as in a checkpoint."""
    origin = "validation split" if chosen else "none: the checkpoint was never validated"
    defaults = [TASKS[task].threshold for task in tasks if chosen and _by_default(task, chosen)]
    if defaults:
        origin += f"; at their defaults, as it cannot choose them: {', '.join(defaults)}"
    return Thresholds(
        slice=chosen.get("cls/threshold"),
        pixel=chosen.get("seg/threshold"),
        box=chosen.get("det/threshold"),
        gate=chosen.get("cls/gate"),
        coarse_gate=chosen.get("cls/coarse_gate"),
        exam=threshold_as_written(chosen.get("exam/stretch_threshold")),
        lesion=threshold_as_written(chosen.get("exam/lesion_threshold")),
        origin=origin,
        coarse_origin=_coarse_origin(chosen),
    )


def _coarse_origin(chosen: Mapping[str, Any]) -> str:
    if "cls/coarse_gate" not in chosen:
        return ""
    lost, positives, studies = (
        chosen[f"cls/coarse_gate_{name}"] for name in ("lost", "positives", "studies")
    )
    return (
        f"{studies:g} thin-slice studies of the validation split: {100 * lost:.2f} % of their "
        f"{positives:g} positive slices left out"
    )


def _by_default(task: str, chosen: Mapping[str, Any]) -> bool:
    return f"{task}/threshold" not in chosen or f"{task}/threshold_by_default" in chosen
