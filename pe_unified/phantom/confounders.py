"""Findings that look like emboli but are not: nodes, mixing, consolidation, effusion."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pe_unified.phantom.anatomy import Anatomy
from pe_unified.phantom.grid import Field, Grid
from pe_unified.phantom.study_plan import PaintingPlan
from pe_unified.phantom.tree import MAIN, SEGMENTAL
from pe_unified.phantom.tubes import Tubes, no_tubes

#: Share of the studies with flow artefacts that contain a slug without contrast.
_SLUG_RATE = 0.4


@dataclass(frozen=True)
class Confounders:
    """Findings of a study that are not emboli.

    Attributes:
        nodes: lymph nodes next to the arteries.
        dimmed: regions of badly mixed contrast in the arteries.
        defect: a filling defect in a pulmonary vein, which is not an embolus.
        bolus: share of the full contrast that has arrived, in and around the arteries.
        patches: (n, 4) consolidations: x, y, z and radius, mm.
        effusion: (left, right) depth of pleural fluid, mm.
        base_z, back_y: lowest and rearmost point of the lungs, mm.
        middle_x: position between the lungs.
    """

    nodes: Tubes
    dimmed: Tubes
    defect: Tubes
    bolus: Field
    patches: np.ndarray
    effusion: tuple[float, float]
    base_z: float
    back_y: float
    middle_x: float

    def in_lung(
        self, air: np.ndarray, distance: np.ndarray, z: float, grid: Grid, grain: np.ndarray
    ) -> np.ndarray:
        """Attenuation of the lung with its diseases: float32 (rows, cols), HU.

        Args:
            air: attenuation of the healthy lung.
            distance: signed distance to the lung, negative inside, mm.
        """
        x, y, _ = grid.axes()
        x, y = x[0], y[0]
        out = air
        for px, py, pz, radius in self.patches:
            if abs(z - pz) > 1.5 * radius:
                continue
            far = np.sqrt((x - px) ** 2 + (y - py) ** 2 + (1.3 * (z - pz)) ** 2)
            share = np.clip((radius + 5 * grain - far) / (0.45 * radius), 0, 1)
            out = out + share * (10 + 25 * grain - out) * np.float32(0.92)
        for depth, side in zip(self.effusion, (1, -1)):
            if depth <= 0:
                continue
            low = np.clip((self.base_z + 95 - z) / 70, 0, 1)
            back = np.clip((y - self.back_y + 75) / 65, 0, 1) ** 1.5
            fluid = np.clip((distance + depth * low * back) / 1.5, 0, 1)
            fluid = fluid * (side * (x - self.middle_x) > 0)
            out = out + fluid * (12 - out)
        return out


def _nodes(plan: PaintingPlan, anatomy: Anatomy, rng: np.random.Generator) -> Tubes:
    """Short thick pieces of tube next to central arteries."""
    tree = anatomy.arteries
    beside = np.flatnonzero(
        (tree.level >= MAIN) & (tree.level <= SEGMENTAL) & (tree.radius > 2.5) & (tree.parent >= 0)
    )
    if not len(beside):
        return no_tubes()
    node = beside[rng.integers(len(beside), size=plan.lymph_nodes)]
    run = tree.points[node] - tree.points[tree.parent[node]]
    away = np.cross(run, rng.standard_normal((len(node), 3)))
    away /= np.maximum(np.linalg.norm(away, axis=1), 1e-6)[:, None]
    size = rng.uniform(2.6, 6.0, len(node))
    middle = tree.points[node] + away * (tree.radius[node] + 0.8 * size)[:, None]
    half = rng.normal(0, 1, (len(node), 3))
    half *= (rng.uniform(1.0, 4.0, len(node)) / np.linalg.norm(half, axis=1))[:, None]
    return Tubes(middle - half, middle + half, size, size * rng.uniform(0.7, 1.0, len(node)))


def _mixing(
    plan: PaintingPlan, anatomy: Anatomy, taken: np.ndarray, rng: np.random.Generator
) -> Tubes:
    """Stretches of badly mixed contrast, away from the emboli."""
    tree = anatomy.arteries
    free = (tree.level >= MAIN) & (tree.level <= SEGMENTAL) & (tree.radius > 2.2) & ~taken
    places = np.flatnonzero(free & (tree.parent >= 0))
    if not plan.flow_artifact or not len(places):
        return no_tubes()
    chosen = np.zeros(len(tree), dtype=bool)
    for start in places[rng.integers(len(places), size=int(rng.integers(3, 8)))]:
        chosen |= tree.distance_below(int(start)) < rng.uniform(12, 45)
    # A real patient's lumens are not round, so their centre lines need wider tubes.
    wide = 1.0 if anatomy.artery_field is None else 1.35
    return tree.tubes(chosen & ~taken).grown(factor=float(rng.uniform(0.55, 0.9)) * wide)


def _defect(plan: PaintingPlan, anatomy: Anatomy, rng: np.random.Generator) -> Tubes:
    """Tumour or thrombus in a pulmonary vein, if the plan has one."""
    tree = anatomy.veins
    places = np.flatnonzero((tree.radius > 3.0) & (tree.radius < 9.0) & (tree.parent >= 0))
    if not plan.other_defect or not len(places):
        return no_tubes()
    start = int(places[rng.integers(len(places))])
    chosen = tree.distance_below(start) < rng.uniform(14, 38)
    return tree.tubes(chosen & (tree.radius > 1.8)).grown(factor=float(rng.uniform(0.6, 0.9)))


def _bolus(plan: PaintingPlan, anatomy: Anatomy, rng: np.random.Generator) -> Field:
    """Distribution of the contrast along the arteries at the time of the scan.

    It decreases towards the periphery, most if the injection was mistimed. In some studies a slug
    of blood without contrast from the lower body passes on both sides (a transient interruption of
    contrast). Both change smoothly along the vessel and have no sharp edge.
    """
    tree = anatomy.arteries
    far = np.nan_to_num(tree.distance_below(0), posinf=0.0)
    fall = rng.uniform(0.3, 0.6) if plan.qa_contrast else rng.uniform(0.0, 0.3)
    share = 1.0 - fall * np.clip((far - 70) / 130, 0, 1)
    if plan.flow_artifact and rng.random() < _SLUG_RATE:
        middle = rng.uniform(55, 165) + 9 * rng.standard_normal() * tree.side
        width, depth = rng.uniform(26, 60), rng.uniform(0.5, 0.8)
        share = share * (1 - depth * np.exp(-(((far - middle) / width) ** 2)))
    step = 4.0
    grid = Grid.covering(tree.points.min(0) - 12, tree.points.max(0) + 12, step)
    index = tuple(np.rint(grid.index_of(tree.points)).astype(int).T)
    weight = np.zeros(grid.shape, dtype=np.float64)
    total = np.zeros(grid.shape, dtype=np.float64)
    bulk = tree.radius**2
    np.add.at(weight, index, bulk)
    np.add.at(total, index, bulk * share)
    weight, total = (ndimage.gaussian_filter(v, 1.6) for v in (weight, total))
    mean = float((bulk * share).sum() / bulk.sum())
    values = (total + 1e-5 * mean) / (weight + 1e-5)
    return Field(values.astype(np.float32), grid)


def draw_confounders(plan: PaintingPlan, anatomy: Anatomy, taken: np.ndarray) -> Confounders:
    """Draw a study's confounders.

    Args:
        taken: (n,) bool, nodes of the arterial tree near emboli.
    """
    rng = plan.rng("confounders")
    lung = anatomy.lung
    index = np.argwhere(lung.values < -4)
    low, high = lung.grid.point_of(index.min(0)), lung.grid.point_of(index.max(0))
    patches = np.zeros((0, 4))
    if plan.consolidation and len(index):
        points = lung.grid.point_of(index)
        deep = points[
            (points[:, 1] > low[1] + 0.62 * (high[1] - low[1]))
            & (points[:, 2] < low[2] + 0.55 * (high[2] - low[2]))
        ]
        deep = deep if len(deep) else points
        centres = deep[rng.integers(len(deep), size=int(rng.integers(1, 4)))]
        patches = np.column_stack([centres, rng.uniform(9, 26, len(centres))])
    depth = rng.uniform(6, 24, 2) * (rng.random(2) < 0.7) if plan.effusion else (0.0, 0.0)
    return Confounders(
        nodes=_nodes(plan, anatomy, rng),
        dimmed=_mixing(plan, anatomy, taken, rng),
        defect=_defect(plan, anatomy, rng),
        bolus=_bolus(plan, anatomy, rng),
        patches=patches,
        effusion=(float(depth[0]), float(depth[1])),
        base_z=float(low[2]),
        back_y=float(high[1]),
        middle_x=float(np.median(anatomy.spine[:, 0])),
    )
