"""RV/LV of synthetic hearts: measured in their masks as in a report, against the true ratio."""

from collections.abc import Sequence

import numpy as np

from pe_unified.inference.right_heart import measure_ventricles
from pe_unified.phantom.fitted import fitted_anatomy
from pe_unified.phantom.grid import Grid
from pe_unified.phantom.heart import build_heart
from pe_unified.phantom.labelmap import LabelMap
from pe_unified.phantom.study_plan import plan_study
from pe_unified.phantom.thorax import procedural_anatomy

_PIXEL_MM = 0.7


def check_heart(seed: int, step_mm: float, body: LabelMap | None) -> tuple[float, float]:
    """The ratio of a study's heart as painted, and as measured.

    Args:
        seed: seed of the study.
        step_mm: distance between slices.
        body: the label map that it is painted on; None for a made-up chest.
    """
    plan = plan_study(seed)
    anatomy = procedural_anatomy(plan) if body is None else fitted_anatomy(plan, body)
    heart = build_heart(plan, anatomy)
    painted = heart.right_ventricle.grid
    spacing = (step_mm, _PIXEL_MM, _PIXEL_MM)
    ends = [(n - 1) * own for n, own in zip(painted.shape, painted.spacing)]
    shape = tuple(int(end / own) for end, own in zip(ends, spacing))
    grid = Grid(shape, spacing, painted.origin)
    right, left = (
        np.stack([field.plane(grid.z_of(index), grid) < 0 for index in range(shape[0])])
        for field in (heart.right_ventricle, heart.left_ventricle)
    )
    return heart.ratio, measure_ventricles(right, left, spacing[1:]).ratio


def summarise_hearts(hearts: Sequence[tuple[float, float]]) -> dict[str, dict[str, float | int]]:
    """Differences between measured and painted ratios."""
    painted, measured = np.array(hearts).T
    off = measured - painted
    return {
        "RV/LV, measured less painted": {
            "hearts": len(off),
            "mean": float(off.mean()),
            "standard deviation": float(off.std()),
            "largest": float(np.abs(off).max()),
            "on the same side of 1": int(((painted >= 1) == (measured >= 1)).sum()),
        }
    }
