"""Where slices lie in the patient: ``position_mm`` and ``orientation`` of ``images[]``."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pe_unified.converters.contract.schema import rounded
from pe_unified.ct.grids import Turn, placement_of
from pe_unified.ct.stack import Stack


@dataclass(frozen=True)
class SlicePlace:
    """Position of a slice in the patient, LPS.

    Attributes:
        position_mm: of the centre of its first pixel.
        orientation: unit vectors along the columns and down the rows, six numbers.
    """

    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]

    @classmethod
    def of(cls, position_mm: np.ndarray, direction: np.ndarray) -> "SlicePlace":
        """``direction``: 3 x 3, whose first two columns are the unit vectors."""
        along = (*direction[:, 0].tolist(), *direction[:, 1].tolist())
        return cls(tuple(position_mm.tolist()), along)


def place_fields(place: SlicePlace | None) -> dict[str, list[float | None] | None]:
    """The fields of ``images[]`` for a position; null if it is not known."""
    return {
        "position_mm": rounded(place.position_mm) if place else None,
        "orientation": rounded(place.orientation, 6) if place else None,
    }


def places_of(stack: Stack) -> Sequence[SlicePlace | None]:
    """The position of each slice of a stack; None if the headers do not give it."""
    if not stack.placed or stack.places_mm is None:
        return [None] * len(stack.slices)
    return [SlicePlace.of(place, stack.direction) for place in stack.places_mm]


def heights_and_places(
    affine: np.ndarray | None, turn: Turn, shape: tuple[int, ...]
) -> tuple[
    list[float | None], list[SlicePlace | None], tuple[float | None, float | None, float | None]
]:
    """z and place of each slice of a volume file, and the spacing (row, col, slice), mm.

    Args:
        affine: 4 x 4, (i, j, k, 1) to LPS mm; None if the file does not give it.
        turn: brings its array into slices, rows and columns.
        shape: of the array, (i, j, k).
    """
    count = shape[turn.axes[0]]
    if affine is None:
        return [None] * count, [None] * count, (None, None, None)
    placed = placement_of(affine, turn, shape)
    start = float(np.dot(placed.origin_mm, placed.direction[:, 2]))
    step = placed.spacing_mm[2]
    origin, between = np.array(placed.origin_mm), np.array(placed.step_mm)
    places = [SlicePlace.of(origin + between * k, placed.direction) for k in range(count)]
    return [round(start + step * k, 4) for k in range(count)], [*places], placed.spacing_mm
