"""Gas outside the lungs, painted on request: in stomach and bowel, and under the back."""

from dataclasses import dataclass

import numpy as np

from pe_unified.phantom.anatomy import Anatomy
from pe_unified.phantom.study_plan import PaintingPlan
from pe_unified.phantom.tubes import Tubes, line_tubes, no_tubes, smooth_line

#: Radii of the stomach relative to a ball of its volume: across, front to back, upwards.
_STOMACH_SHAPE = np.array([1.2, 1.0, 0.83])
#: Thickness of the stomach wall and the diaphragm above it, mm.
_UNDER_LUNG_MM = 5.0


@dataclass(frozen=True)
class GasParams:
    """Gas to paint.

    Attributes:
        stomach_ml: gas in the stomach, under the left diaphragm, above a fluid level.
        bowel_loops: number of gas-filled bowel loops behind the abdominal wall.
        table_gap_mm: depth of the air between the back and a table that supports it at both sides.
    """

    stomach_ml: float = 0.0
    bowel_loops: int = 0
    table_gap_mm: float = 0.0


@dataclass(frozen=True)
class Gas:
    """Position of the gas.

    Attributes:
        stomach: (centre, radii) of its inside, (x, y, z) each, mm; None without.
        bowel: lumen of the bowel.
        table_gap_mm: as in :class:`GasParams`.
    """

    stomach: tuple[np.ndarray, np.ndarray] | None
    bowel: Tubes
    table_gap_mm: float


def draw_gas(params: GasParams, plan: PaintingPlan, anatomy: Anatomy) -> Gas:
    """Place the gas in the abdomen of an anatomy."""
    rng = plan.rng("gas")
    field = anatomy.abdomen
    room = field.values < -_UNDER_LUNG_MM
    index = np.argwhere(room)
    points = field.grid.point_of(index)
    middle = float(np.median(anatomy.spine[:, 0]))
    left = points[points[:, 0] > middle + 25]
    top = left[left[:, 2] >= left[:, 2].max() - 6].mean(axis=0)
    stomach = None
    if params.stomach_ml:
        # Half of the stomach is gas, the other half is fluid.
        ball = (2 * params.stomach_ml * 1000 / (4 / 3 * np.pi)) ** (1 / 3)
        radii = ball * _STOMACH_SHAPE * rng.uniform(0.93, 1.07, 3)
        centre = np.array([top[0], top[1] - rng.uniform(5, 20), top[2] - radii[2]])
        stomach = centre, radii
    bowel = no_tubes()
    for _ in range(params.bowel_loops):
        start = np.array([middle + rng.uniform(-60, 90), 0.0, top[2] - rng.uniform(35, 75)])
        across = np.linspace(-45, 45, 6)
        line = start + np.column_stack([across, 0 * across, rng.normal(0, 9, 6)])
        for point in line:
            near = points[np.hypot(*(points[:, ::2] - point[::2]).T) < 6]
            point[1] = near[:, 1].min() + 20 if len(near) else top[1] - 30
        bowel = bowel + line_tubes(smooth_line(line, rng.uniform(9, 17, 6)))
    return Gas(stomach, bowel, params.table_gap_mm)
