"""Finds the body and everything it encloses, on the search grid of the lungs."""

from dataclasses import dataclass

import cv2
import numpy as np

#: Threshold between air or lung (darker) and tissue (brighter), HU.
AIR_HU = -400
#: Only gas is as dark as this, HU: bowel, stomach, the air around the body.
GAS_HU = -940
#: Maximum median of a region at the rim of a slice that is air rather than cut-off lung, HU.
_OUTSIDE_HU = -960
#: Pixels that are this dark in every slice are padding, HU.
_PADDING_HU = -1010
#: Width of the rim of the field of view, cells of the search grid; its cells are partly outside.
_RIM_CELLS = 1.0
#: If at least this share of the corners is tissue or lung, the field of view is not an ellipse.
_CORNERS_SHARE = 0.02
#: Tissue regions of a slice belong to the body if they have this share of the largest one: a
#: small field of view may separate chest wall and heart; tables and arms are smaller.
_BODY_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Body:
    """The body on the search grid.

    Attributes:
        tissue: bool (slices, rows, cols), the large regions of tissue.
        dark: bool, same shape, air and lung except for the air around the body.
        field: bool (rows, cols), the field of view.
    """

    tissue: np.ndarray
    dark: np.ndarray
    field: np.ndarray


def find_body(coarse: np.ndarray) -> Body:
    """The body on the search grid: ``coarse`` is int16 (slices, rows, cols), HU."""
    field = field_of_view(coarse)
    rim = field & ~shrunk(field)
    return Body(
        np.stack([_tissue(level) for level in coarse]),
        np.stack([_enclosed_air(level, field, rim) for level in coarse]),
        field,
    )


def field_of_view(coarse: np.ndarray) -> np.ndarray:
    """The field of view: bool (rows, cols).

    It is the largest ellipse in the slice or, if the corners outside it show tissue or lung,
    everything but padding.
    """
    rows, cols = coarse.shape[1:]
    down, across = np.ogrid[:rows, :cols]
    share = 2 * np.hypot((down + 0.5) / rows - 0.5, (across + 0.5) / cols - 0.5)
    to_edge = (1 - share) * min(rows, cols) / 2
    corners = coarse[:, to_edge < -_RIM_CELLS]
    if corners.size and np.mean(corners > GAS_HU) >= _CORNERS_SHARE:
        return np.asarray((coarse > _PADDING_HU).any(axis=0))
    return np.asarray(to_edge > _RIM_CELLS)


def _tissue(hu: np.ndarray) -> np.ndarray:
    """The large regions of tissue in a slice, without the table: bool (rows, cols)."""
    tissue = (hu > AIR_HU).astype(np.uint8)
    # Remove parts that touch the body through only one or two cells, such as the table.
    kernel = np.ones((3, 3), np.uint8)
    opened = cv2.morphologyEx(tissue, cv2.MORPH_OPEN, kernel)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count < 2:
        return np.zeros(hu.shape, dtype=bool)
    areas = stats[1:, cv2.CC_STAT_AREA]
    body = np.isin(parts, 1 + np.flatnonzero(areas >= _BODY_SHARE * areas.max()))
    # Restore the thin chest wall that opening removed, where it is attached to the body.
    return (cv2.dilate(body.astype(np.uint8), kernel) > 0) & (tissue > 0)


def _enclosed_air(hu: np.ndarray, field: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """Air and lung in a slice, without air that reaches the rim of the field of view.

    Lung that reaches the rim is kept.
    """
    dark = (hu < AIR_HU) & field
    _, parts = cv2.connectedComponents(dark.astype(np.uint8), connectivity=4)
    reaching = np.unique(parts[rim & dark])
    outside = [part for part in reaching if np.median(hu[parts == part]) <= _OUTSIDE_HU]
    return dark & ~np.isin(parts, outside)


def enclosed(wall: np.ndarray) -> np.ndarray:
    """A wall with everything that it separates from the rim of the slice: bool."""
    # 1 where there is no wall, with an additional rim all around.
    around = np.pad((~wall).astype(np.uint8), 1, constant_values=1)
    cv2.floodFill(around, None, (0, 0), 2)
    return around[1:-1, 1:-1] != 2


def shrunk(mask: np.ndarray) -> np.ndarray:
    """A mask (rows, cols) without its outermost cells, also at the edge of the slice."""
    kernel = np.ones((3, 3), np.uint8)
    return cv2.erode(np.pad(mask, 1).astype(np.uint8), kernel)[1:-1, 1:-1].astype(bool)
