"""Marks in a map of probabilities: one voxel per component, none near a better one."""

import numpy as np

from pe_unified.evaluation.components import find_lesions
from pe_unified.evaluation.marks import marks_of

#: At which a voxel belongs to a component.
CUT = 0.5
#: Nearer to a better mark than this, mm, a mark is dropped.
APART_MM = 10.0
#: Marks of a scan at most.
MOST = 100


def find_marks(
    probability: np.ndarray,
    step_mm: float,
    cut: float = CUT,
    apart_mm: float = APART_MM,
    most: int = MOST,
) -> np.ndarray:
    """The marks of a scan, best first.

    Voxels at or above the cut that touch, by corners too, are one component. Its score is the
    maximum within, its mark the voxel that has it. (As Guan et al. 2022 do.)

    Args:
        probability: float (levels, rows, cols), on an even grid.
        step_mm: of the grid.

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
