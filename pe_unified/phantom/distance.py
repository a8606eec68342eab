"""Signed distances of masks on coarse grids."""

import cv2
import numpy as np

from pe_unified.phantom.grid import Grid


def planar_distance(mask: np.ndarray, grid: Grid, far: float = 150.0) -> np.ndarray:
    """In-plane signed distance of each slice of a mask, mm, negative inside.

    Args:
        mask: bool (slices, rows, cols) of ``grid``.
        far: value of an empty slice (its negative for a full one).
    """
    out = np.empty(mask.shape, dtype=np.float32)
    for k, plane in enumerate(mask):
        inside = plane.astype(np.uint8)
        count = int(inside.sum())
        if count in (0, inside.size):
            out[k] = far if count == 0 else -far
            continue
        near = cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_5)
        deep = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5)
        out[k] = (near - deep + np.where(plane, 0.5, -0.5)) * grid.pixel
    return out
