"""Synthetic CT pulmonary angiograms with exact ground truth, for work without patient data.

:func:`paint_study` is the entry point. The same seed gives the same bytes; different seeds are
different people. Results on these studies support no clinical claim.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pe_unified.phantom.anatomy import Anatomy
from pe_unified.phantom.confounders import draw_confounders
from pe_unified.phantom.emboli import paint_emboli
from pe_unified.phantom.fitted import fitted_anatomy
from pe_unified.phantom.gas import GasParams, draw_gas
from pe_unified.phantom.grid import Grid
from pe_unified.phantom.heart import build_heart
from pe_unified.phantom.labelmap import LabelMap
from pe_unified.phantom.labels import Embolus, exam_labels
from pe_unified.phantom.scanner import Scanner
from pe_unified.phantom.study_plan import PaintingPlan, PhantomParams, plan_study
from pe_unified.phantom.thorax import procedural_anatomy
from pe_unified.phantom.tissue import STRUCTURES, Painter, Scene, vessel_coverage
from pe_unified.phantom.wall import build_wall

__all__ = ["STRUCTURES", "GasParams", "PhantomParams", "PhantomStudy", "paint_study", "plan_study"]


@dataclass(frozen=True)
class PhantomStudy:
    """One synthetic study with its ground truth.

    Attributes:
        hu: int16 (slices, rows, cols), Hounsfield units, slice 0 lowest; rows run to the back,
            columns to the patient's left.
        emboli: uint8, same shape: 0, or the number of the embolus.
        structures: uint8, same shape, values of :data:`STRUCTURES`; emboli count as artery.
        spacing: mm between slices, rows, columns.
        origin: (x, y, z) of voxel [0, 0, 0], mm, LPS.
        findings: the emboli in the map.
        labels: the exam labels of RSNA.
        rv_lv_ratio: diameter of the right over that of the left ventricle, as painted.
        plan: all random choices.
        anatomy: the body on which it is painted, with its name.
        grid: the geometry, for measurements.
    """

    hu: np.ndarray
    emboli: np.ndarray
    structures: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    findings: tuple[Embolus, ...]
    labels: dict[str, int]
    rv_lv_ratio: float
    plan: PaintingPlan
    anatomy: Anatomy
    grid: Grid


def study_grid(
    plan: PaintingPlan,
    anatomy: Anatomy,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float] | None,
) -> Grid:
    """The grid of the slices: around the chest, from the lung bases to the apices."""
    rng = plan.rng("grid")
    height = anatomy.apex_z - anatomy.base_z
    if spacing is None:
        inside = np.flatnonzero((anatomy.cavity.values < 0).any((0, 1)))
        width = (inside[-1] - inside[0]) * anatomy.cavity.grid.spacing[2]
        view = width * 1.09 + 1.4 * plan.fat_mm + rng.uniform(8, 34)
        view = float(np.clip(view, 250, 440))
        low = anatomy.base_z + height * rng.uniform(0.04, 0.12)
        high = anatomy.base_z + height * rng.uniform(0.94, 1.0)
        low, high = max(low, anatomy.limits_z[0]), min(high, anatomy.limits_z[1])
        between = (high - low) / max(shape[0] - 1, 1)
        spacing = (round(between, 3), round(view / shape[1], 4), round(view / shape[2], 4))
    else:
        middle_z = anatomy.base_z + 0.55 * height
        low = middle_z - spacing[0] * (shape[0] - 1) / 2
    cavity = anatomy.cavity
    rows = np.flatnonzero((cavity.values < 0).any((0, 2)))
    middle = (
        float(np.median(anatomy.spine[:, 0])) + rng.normal(0, 3),
        cavity.grid.origin[1] + (rows[0] + rows[-1]) / 2 * cavity.grid.spacing[1] + 4,
    )
    x = middle[0] - spacing[2] * (shape[2] - 1) / 2
    y = middle[1] - spacing[1] * (shape[1] - 1) / 2
    return Grid(shape, spacing, (round(float(x), 3), round(float(y), 3), round(float(low), 3)))


def _dense_track(painter: Painter, grid: Grid) -> np.ndarray:
    """(slices, 2) centre of the superior vena cava in each slice, NaN if there is none."""
    track = np.full((grid.shape[0], 2), np.nan)
    for k, plane in enumerate(painter.parts["svc"]):
        rows, cols = np.nonzero(plane >= 128)
        if len(rows):
            track[k] = (
                grid.origin[0] + cols.mean() * grid.spacing[2],
                grid.origin[1] + rows.mean() * grid.spacing[1],
            )
    return track


def paint_study(
    seed: int,
    shape: tuple[int, int, int] = (150, 256, 256),
    spacing: tuple[float, float, float] | None = None,
    anatomy: LabelMap | None = None,
    positive: bool | None = None,
    params: PhantomParams | None = None,
    gas: GasParams | None = None,
) -> PhantomStudy:
    """Paint one CT pulmonary angiogram.

    Args:
        seed: of this study.
        shape: (slices, rows, cols).
        spacing: mm between slices, rows, columns; by default fitted to the chest.
        anatomy: a patient's label map to paint on, from
            :func:`pe_unified.phantom.labelmap.read_label_map`; generated by default.
        positive: force emboli, or none.
        params: the distributions that the study is drawn from.
        gas: to add inside and under the same patient, where it may be mistaken for lung; none by
            default.

    Raises:
        ValueError: the grid is too coarse to show any of the planned emboli.
    """
    plan = plan_study(seed, params, positive)
    body = procedural_anatomy(plan) if anatomy is None else fitted_anatomy(plan, anatomy)
    grid = study_grid(plan, body, shape, spacing)
    arteries = vessel_coverage(grid, body.arteries, body.artery_field)
    emboli = paint_emboli(
        plan, body.arteries, arteries, grid, 1.15 if body.artery_field is None else 1.5
    )
    if emboli.tree is not body.arteries and body.artery_field is None:
        # Next to the emboli the lumen stays as it was when they lodged in it.
        kept = ndimage.binary_dilation(emboli.instances > 0, np.ones((3, 3, 3)))
        arteries = np.where(kept, arteries, vessel_coverage(grid, emboli.tree, None))
    confounders = draw_confounders(plan, body, emboli.nodes)
    heart = build_heart(plan, body)
    outside_lungs = None if gas is None else draw_gas(gas, plan, body)
    scene = Scene(plan, body, build_wall(plan, body), heart, emboli, confounders, outside_lungs)
    painter = Painter(scene, grid, arteries)
    scanner = Scanner(plan, grid, _dense_track(painter, grid))
    hu = np.empty(shape, dtype=np.int16)
    structures = np.empty(shape, dtype=np.uint8)
    for k in range(shape[0]):
        hu[k] = scanner.scan(painter.paint(k), k)
        structures[k] = painter.truth(k)
    return PhantomStudy(
        hu=hu,
        emboli=emboli.instances,
        structures=structures,
        spacing=grid.spacing,
        origin=grid.origin,
        findings=emboli.emboli,
        labels=exam_labels(
            emboli.emboli,
            heart.ratio,
            indeterminate=plan.indeterminate,
            qa_motion=plan.qa_motion,
            qa_contrast=plan.qa_contrast,
            flow_artifact=plan.flow_artifact,
            true_filling_defect_not_pe=plan.other_defect,
        ),
        rv_lv_ratio=heart.ratio,
        plan=plan,
        anatomy=body,
        grid=grid,
    )
