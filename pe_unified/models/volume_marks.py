"""Marks in a probability map: one voxel per component, none near a better one."""

import numpy as np

from pe_unified.evaluation.components import find_lesions
from pe_unified.evaluation.marks import marks_of

#: Probability from which a voxel belongs to a component.
CUT = 0.5
#: A mark nearer than this to a better mark is dropped, mm.
APART_MM = 10.0
#: Largest number of marks per scan.
MOST = 100


def find_marks(
    probability: np.ndarray,
    step_mm: float,
    cut: float = CUT,
    apart_mm: float = APART_MM,
    most: int = MOST,
) -> np.ndarray:
    """The marks of a scan, best first.

    Voxels at or above the cut that touch, also at corners, form one component. Its mark is the
    voxel with the highest probability, which is its score (as in Guan et al. 2022).

    Args:
        probability: float (levels, rows, cols), on an isotropic grid.
        step_mm: spacing of the grid.

    Returns:
        float64 (marks, 4): level, row, column, and score.
    """
    parts = find_lesions(probability >= cut, step_mm**3)
    box = tuple(slice(a, a + n) for a, n in zip(parts.start, parts.labels.shape, strict=True))
    found = marks_of(parts, (step_mm,) * 3, probability[box])
    order = np.argsort(-found.confidences, kind="stable")
    points, scores = found.points[order], found.confidences[order]
    kept: list[int] = []
    for index, point in enumerate(points):
        away = np.linalg.norm(points[kept] - point, axis=1) * step_mm
        if (away >= apart_mm).all():
            kept.append(index)
        if len(kept) == most:
            break
    return np.column_stack([points[kept], scores[kept]])
