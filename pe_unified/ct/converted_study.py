"""A series of a converted set as a study."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pe_unified.ct.hu import read_slice_png
from pe_unified.ct.study import CTStudy


def is_placed(slices: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the set gives the position of the slices in the patient."""
    return all(each.get("position_mm") and each.get("orientation") for each in slices)


def converted_study(slices: Sequence[Mapping[str, Any]]) -> CTStudy:
    """The slices as a study; pixels are read slice by slice.

    If the set does not give the orientation, rows and columns are assumed to have the usual one,
    and x and y count from the first pixel.

    Args:
        slices: of one series, from feet to head: their entries in the JSON of the set, and
            ``img_path``.
    """
    first, paths = slices[0], tuple(each["img_path"] for each in slices)
    direction, origin, step = np.eye(3), np.zeros(3), np.zeros(3)
    places = None
    spacing = tuple(first["spacing_mm"] or (None, None, None))
    placed = is_placed(slices)
    if placed:
        along, down = np.reshape(first["orientation"], (2, 3))
        direction = np.column_stack([along, down, np.cross(along, down)])
        places = np.array([each["position_mm"] for each in slices], dtype=np.float64)
        origin = places[0]
        step = (places[-1] - places[0]) / max(1, len(places) - 1)
    elif None not in (first["z_mm"], slices[-1]["z_mm"]):
        origin[2] = first["z_mm"]
        step[2] = (slices[-1]["z_mm"] - first["z_mm"]) / max(1, len(slices) - 1)
    if not step.any():
        step = direction[:, 2] * (spacing[2] or 1.0)
    return CTStudy(
        source=Path(paths[0]).parent,
        shape=(len(paths), first["height"], first["width"]),
        spacing_mm=spacing,
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=direction,
        step_mm=(float(step[0]), float(step[1]), float(step[2])),
        z_mm=tuple(each["z_mm"] for each in slices),
        read=partial(_read, paths),
        study_uid=first["study_uid"] or "",
        series_uid=first["series_uid"] or "",
        patient_id=first["patient_id"],
        places_mm=places,
        placed=placed,
    )


def _read(paths: Sequence[str], index: int) -> np.ndarray:
    return read_slice_png(paths[index])
