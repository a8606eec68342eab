"""Calcium in chronic emboli: flakes inside a clot, brighter than the blood around it."""

import numpy as np
from scipy import ndimage

from pe_unified.phantom.grid import Grid

#: Maximum calcium in a clot, as a share (which raises its mean by 40 HU) and in ml.
_MOST_SHARE, _MOST_ML = 0.05, 0.3
#: Volume of a flake, ml.
_FLAKE_ML = 0.05
#: Attenuation of calcium, HU: higher than any artery.
_HU = (550.0, 900.0)


def calcify(rng: np.random.Generator, mask: np.ndarray, grid: Grid) -> tuple[np.ndarray, float]:
    """Flakes of calcium inside a clot: bool (slices, rows, cols), and their HU.

    Args:
        mask: bool (slices, rows, cols) of ``grid``, the clot. A clot of fewer than
            ``1 / _MOST_SHARE`` voxels gets none.
    """
    voxel_ml = float(np.prod(grid.spacing)) / 1000
    most = int(min(_MOST_SHARE * mask.sum(), max(_MOST_ML / voxel_ml, 1)))
    count = int(np.ceil(rng.uniform(0.5, 1.0) * most))
    depth = ndimage.distance_transform_edt(mask, sampling=grid.spacing)[mask]
    points = grid.point_of(np.argwhere(mask))
    deep = points[depth >= np.percentile(depth, 60)]
    flakes = deep[rng.integers(len(deep), size=int(np.ceil(count * voxel_ml / _FLAKE_ML)) + 1)]
    far = np.linalg.norm(points[:, None] - flakes, axis=2).min(1)
    chosen = np.zeros(len(points), dtype=bool)
    chosen[np.argsort(far, kind="stable")[:count]] = True
    calcium = np.zeros(mask.shape, dtype=bool)
    calcium[mask] = chosen
    return calcium, float(rng.uniform(*_HU))
