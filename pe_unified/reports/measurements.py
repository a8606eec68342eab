"""The measurements of a report, or the reasons why there are none, as data and in words."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from pe_unified.ct.structures import (
    ARTERIES,
    LEFT_VENTRICLE,
    RIGHT_VENTRICLE,
    Structure,
    Structures,
)
from pe_unified.ct.study import CTStudy
from pe_unified.inference.lesions import Lesion
from pe_unified.inference.obstruction import estimate_obstruction
from pe_unified.inference.right_heart import Diameter, NotMeasurable, measure_ventricles

_Shape = tuple[int, int, int]


def measure(
    study: CTStudy, lesions: Sequence[Lesion], tasks: Collection[str], structures: Structures
) -> dict[str, Any]:
    """The block ``measurements`` of a report.

    Args:
        study: the study to measure in.
        lesions: those that are listed are measured.
        tasks: of the model.
        structures: those that were given; usually none.
    """
    listed = [lesion for lesion in lesions if lesion.listed]
    volume = sum(lesion.volume_ml or 0.0 for lesion in listed)
    return {
        "clot_volume_ml": round(volume, 4) if "seg" in tasks else None,
        "structures": list(structures.masks),
        "obstruction": _obstruction(study, listed, tasks, structures),
        "rv_lv_ratio": _ratio(study, structures),
    }


def ratio_in_words(report: Mapping[str, Any]) -> str:
    """The measured ratio of the ventricles, or why there is none; one line."""
    found = report["measurements"]["rv_lv_ratio"]
    if found["ratio"] is None:
        return found["reason"]
    right, left = found["right"], found["left"]
    said = (
        f"{found['ratio']:.2f}, measured in the masks given "
        f"(right {right['diameter_mm']:.1f} mm on slice {right['slice']}, "
        f"left {left['diameter_mm']:.1f} mm on slice {left['slice']})"
    )
    return "; ".join([said, *found["notes"]])


def obstruction_in_words(report: Mapping[str, Any]) -> str:
    """The estimated obstruction of the arteries, or why there is none; one line."""
    found = report["measurements"]["obstruction"]
    if found["percent"] is None:
        return found["reason"]
    said = f"{found['percent']:.0f} %: an estimate from masks, not the Qanadli score by a reader"
    reached = found["clot_reached_percent"]
    if reached is not None and reached < 99.5:
        said += (
            f"; {100 - reached:.0f} % of the volume of the lesions lies outside the arteries given"
        )
    return said


def _ratio(study: CTStudy, structures: Structures) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(("ratio", "reason", "right", "left"))
    found["notes"] = []
    sides = {"right": RIGHT_VENTRICLE, "left": LEFT_VENTRICLE}
    missing = [side for side, name in sides.items() if name not in structures.masks]
    if missing:
        which = "the ventricles" if len(missing) == 2 else f"the {missing[0]} ventricle"
        return found | {"reason": f"not measured: no mask of {which} is given"}
    both = {side: structures.masks[name] for side, name in sides.items()}
    start, shape = _around(list(both.values()))
    row_mm, col_mm, _ = study.known_spacing()
    try:
        right, left = (both[side].on(start, shape) for side in ("right", "left"))
        measured = measure_ventricles(right, left, (row_mm, col_mm))
    except NotMeasurable as reason:
        return found | {"reason": f"not measured: {reason}"}
    ends = [
        f"the {side} ventricle is cut off at the end of the scan"
        for side, mask in both.items()
        if mask.start[0] == 0 or mask.stop[0] == len(study)
    ]
    return found | {
        "ratio": round(measured.ratio, 3),
        "right": _diameter(measured.right, start),
        "left": _diameter(measured.left, start),
        "notes": ends,
    }


def _diameter(diameter: Diameter, start: _Shape) -> dict[str, Any]:
    first, row, col = start
    return {
        "diameter_mm": round(diameter.mm, 1),
        "slice": diameter.index + first,
        "ends": [[round(x + col, 1), round(y + row, 1)] for x, y in diameter.ends],
    }


def _obstruction(
    study: CTStudy, lesions: Sequence[Lesion], tasks: Collection[str], structures: Structures
) -> dict[str, Any]:
    names = ("percent", "reason", "clot_reached_percent", "arteries_ml")
    found: dict[str, Any] = dict.fromkeys(names)
    arteries = [structures.masks[name] for name in ARTERIES if name in structures.masks]
    if not arteries:
        return found | {"reason": "not estimated: no mask of the arteries is given"}
    if "seg" not in tasks:
        return found | {"reason": "not estimated: the model does not outline lesions"}
    if RIGHT_VENTRICLE not in structures.masks:
        reason = "no mask of the right ventricle shows where the arteries begin"
        return found | {"reason": f"not estimated: {reason}"}
    ventricle = structures.masks[RIGHT_VENTRICLE]
    clots = _clots(lesions, study)
    start, shape = _around([*arteries, ventricle, clots])
    row_mm, col_mm, step_mm = study.known_spacing()
    try:
        estimate = estimate_obstruction(
            np.logical_or.reduce([each.on(start, shape) for each in arteries]),
            clots.on(start, shape),
            ventricle.on(start, shape),
            (step_mm, row_mm, col_mm),
        )
    except NotMeasurable as reason:
        return found | {"reason": f"not estimated: {reason}"}
    reached = estimate.clot_reached
    return found | {
        "percent": round(estimate.percent, 1),
        "clot_reached_percent": None if reached is None else round(100 * reached, 1),
        "arteries_ml": round(estimate.arteries_ml, 1),
    }


def _clots(lesions: Sequence[Lesion], study: CTStudy) -> Structure:
    """The masks of all lesions as one."""
    rows = study.shape[1:]
    planes: dict[int, np.ndarray] = {}
    for lesion in lesions:
        for index, own in lesion.pixels.items():
            planes.setdefault(index, np.zeros(rows, dtype=bool)).ravel()[own] = True
    if not planes:
        return Structure.cut(np.zeros((1, *rows), dtype=bool))
    first, last = min(planes), max(planes)
    empty = np.zeros(rows, dtype=bool)
    whole = np.stack([planes.get(index, empty) for index in range(first, last + 1)])
    return Structure.cut(whole, (first, 0, 0))


def _around(masks: Sequence[Structure]) -> tuple[_Shape, _Shape]:
    """Start and shape of the smallest box that holds all masks."""
    held = [mask for mask in masks if mask.mask.size]
    if not held:
        return (0, 0, 0), (1, 1, 1)
    first, row, col = np.min([mask.start for mask in held], axis=0).tolist()
    beyond = np.max([mask.stop for mask in held], axis=0).tolist()
    return (first, row, col), (beyond[0] - first, beyond[1] - row, beyond[2] - col)
