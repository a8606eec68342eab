"""The lesions of a mask: its connected components, or its labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pe_unified.evaluation.intervals import FloatArray
from pe_unified.evaluation.surfaces import surface_voxels
from pe_unified.evaluation.tables import IntArray

#: Neighbours: at faces; at faces and edges; at faces, edges and corners.
CONNECTIVITIES = {6: 1, 18: 2, 26: 3}


@dataclass(frozen=True, eq=False)
class Lesions:
    """Lesions of one scan, cropped to their bounding box.

    Attributes:
        labels: (slices, rows, cols), of the smallest integer type; 0 background, 1 ... n.
        start: (slice, row, col) of the first voxel of ``labels`` in the scan.
        voxels: int64 (n,).
        volumes_mm3: float64 (n,).
    """

    labels: NDArray[np.integer]
    start: tuple[int, int, int]
    voxels: IntArray
    volumes_mm3: FloatArray

    def __len__(self) -> int:
        return len(self.voxels)

    def at(self, points: NDArray[np.integer]) -> NDArray[np.integer]:
        """The labels at voxels (n, 3) of the scan; 0 outside the box."""
        return values_at(self.labels, self.start, points)

    def points(self) -> IntArray:
        """Voxels (n, 3) of all lesions, as indices of the scan."""
        return np.argwhere(self.labels) + self.start

    def surface(self) -> IntArray:
        """Surface voxels (n, 3) of the mask as a whole, as indices of the scan."""
        return surface_voxels(self.labels > 0) + self.start


def values_at(part: NDArray, start: tuple[int, int, int], points: NDArray[np.integer]) -> NDArray:
    """Values of a part of a scan at voxels (n, 3) of the scan; 0 outside the part."""
    own = points - np.asarray(start)
    inside = ((own >= 0) & (own < part.shape)).all(axis=1)
    found = np.zeros(len(points), dtype=part.dtype)
    found[inside] = part[tuple(own[inside].T)]
    return found


def box_of(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """The bounding box of a mask (slices, rows, cols); None if it is empty."""
    levels = np.flatnonzero(mask.any(axis=(1, 2)))
    if not len(levels):
        return None
    along = slice(int(levels[0]), int(levels[-1]) + 1)
    flat = np.logical_or.reduce(mask[along], axis=0)
    rows, cols = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    return along, slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def find_lesions(
    values: NDArray, voxel_mm3: float, connectivity: int = 26, numbered: bool = False
) -> Lesions:
    """The lesions of a mask.

    Args:
        values: (slices, rows, cols), bool or integers; 0 is background.
        voxel_mm3: volume of a voxel.
        connectivity: 6, 18 or 26: voxels that touch at faces, also at edges, or also at corners
            belong to one lesion.
        numbered: every number is one lesion, even in several parts.
    """
    box = box_of(values != 0)
    if box is None:
        return Lesions(np.zeros((1, 1, 1), np.uint8), (0, 0, 0), np.zeros(0, np.int64), np.zeros(0))
    part = values[box]
    inside = part != 0
    if numbered:
        numbers, own = np.unique(part[inside], return_inverse=True)
        count, own = len(numbers), own + 1
    else:
        structure = ndimage.generate_binary_structure(3, CONNECTIVITIES[connectivity])
        found, count = ndimage.label(inside, structure)
        own = found[inside]
        del found
    # Usually needs a quarter of the memory.
    labels = np.zeros(part.shape, np.min_scalar_type(count))
    labels[inside] = own
    voxels = np.bincount(own)[1:].astype(np.int64)
    start = (box[0].start, box[1].start, box[2].start)
    return Lesions(labels, start, voxels, np.multiply(voxels, voxel_mm3, dtype=np.float64))
