import functools
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from whole_lungs import coarse_grid, lung_box, lung_mask

from pe_unified.ct.grids import turn_of
from pe_unified.ct.lungs import (
    GRID_MM,
    coarse_lungs,
    shrink_slice,
)
from pe_unified.phantom.labelmap import read_label_map
from pe_unified.phantom.study import STRUCTURES, GasParams, PhantomParams, paint_study

AIR, LUNG, TISSUE, VESSEL = -1000, -850, 40, 300


def ellipse(rows_mm, cols_mm, centre, radii):
    return ((rows_mm - centre[0]) / radii[0]) ** 2 + ((cols_mm - centre[1]) / radii[1]) ** 2 <= 1


def thorax(spacing=(1.5, 1.5, 3.0), shape=(50, 240, 240), shift=0.0, left=True, right=True, seed=0):
    """A chest of ellipses, in mm, with noise: HU and the truth of the lungs, with vessels.

    Trachea, a table, a bottle beside the patient, an arm, stomach gas and a ring outside the
    field of view are all there to be mistaken for lung.
    """
    slices, rows, cols = shape
    ys = (np.arange(rows) * spacing[0])[:, None]
    xs = (np.arange(cols) * spacing[1])[None]
    middle = np.array([rows * spacing[0] / 2 - 10, cols * spacing[1] / 2 + shift])

    def at(row_mm, col_mm):
        return middle[0] + row_mm, middle[1] + col_mm

    hu = np.full(shape, AIR, dtype=np.float32)
    truth = np.zeros(shape, dtype=bool)
    for k in range(slices):
        level = hu[k]
        level[ellipse(ys, xs, middle, (105, 150))] = TISSUE
        size = np.sin(np.pi * (k + 0.5) / slices) ** 0.5
        for wanted, side in ((right, -1), (left, 1)):
            where = ellipse(ys, xs, at(0, side * 75), (75 * size, 50 * size))
            if wanted:
                level[where] = LUNG
                truth[k] |= where
        vessel = ellipse(ys, xs, at(0, 75), (6, 6)) & truth[k]
        level[vessel] = VESSEL
        level[ellipse(ys, xs, at(20, 0), (9, 9))] = AIR  # trachea
        if k < 6:
            level[ellipse(ys, xs, at(-50, 40), (18, 26))] = AIR  # stomach
        table = (ys > middle[0] + 112) & (ys < middle[0] + 118) & (np.abs(xs - middle[1]) < 140)
        level[table] = -100
        level[ellipse(ys, xs, at(-140, -120), (15, 15))] = TISSUE  # an arm
        level[ellipse(ys, xs, at(-140, 120), (18, 18))] = TISSUE  # a bottle ...
        level[ellipse(ys, xs, at(-140, 120), (14, 14))] = LUNG  # ... of foam
    hu += np.random.default_rng(seed).normal(0, 25, shape)
    outside = ~ellipse(ys, xs, middle, (195, 195))
    hu[:, outside] = -1024
    return hu.clip(-1024, 3000).astype(np.int16), truth


def box_of(mask):
    ys, xs = np.flatnonzero(mask.any((0, 2))), np.flatnonzero(mask.any((0, 1)))
    return xs[0], ys[0], xs[-1] + 1 - xs[0], ys[-1] + 1 - ys[0]


def corners(box):
    x, y, w, h = box
    return np.array([x, y, x + w, y + h])


def assert_around(box, truth, spacing, tolerance_mm=2 * GRID_MM):
    off = np.abs(corners(box) - corners(box_of(truth)))
    assert (off * np.tile([spacing[1], spacing[0]], 2) <= tolerance_mm + 1e-6).all(), (
        box,
        box_of(truth),
    )


def test_lungs_and_nothing_else():
    spacing = (1.5, 1.5, 3.0)
    hu, truth = thorax(spacing)
    mask = lung_mask(hu, spacing)
    assert mask.shape == hu.shape and mask.dtype == bool
    dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    assert dice > 0.97
    # Vessels in the lung belong to it; the bottle, the arm and the stomach do not.
    vessels = truth & (hu > 150)
    assert mask[vessels].mean() > 0.9
    assert not mask[:, :40].any()
    assert_around(lung_box(hu, spacing), truth, spacing)


def test_a_small_field_of_view_cuts_through_the_lungs():
    """The wall of the chest lies beyond it; outside of the circle there is padding."""
    spacing = (1.5, 1.5, 3.0)
    hu, truth = thorax(spacing)
    view = np.s_[:, 30:196, 42:208]
    hu, truth = hu[view].copy(), truth[view].copy()
    rows, cols = np.mgrid[:166, :166] - 82.5
    outside = np.hypot(rows, cols) > 83
    hu[:, outside], truth[:, outside] = -1024, False
    assert truth[25][np.hypot(rows, cols) > 81].any()  # lung up to the rim
    mask = lung_mask(hu, spacing)
    assert not mask[:, np.hypot(rows, cols) > 86].any()
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.93


def dice(mask, truth):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


def test_a_square_field_of_view_keeps_its_corners():
    """Cut from a whole scan, as for the heart: no padding, lung up to all four sides."""
    spacing = (1.5, 1.5, 3.0)
    hu, truth = thorax(spacing)
    view = np.s_[:, 80:146, 60:180]
    mask = lung_mask(hu[view], spacing)
    corner = np.s_[:, -12:, :12]
    assert truth[view][corner].any()
    assert mask[corner][truth[view][corner]].mean() > 0.95
    assert dice(mask, truth[view]) > 0.97
    assert lung_box(hu[view], spacing) == (0, 0, 120, 66)


@functools.cache
def gassy():
    params = PhantomParams(motion_rate=0.0, consolidation_rate=0.0, effusion_rate=0.0)
    gas = GasParams(stomach_ml=250, bowel_loops=3, table_gap_mm=14)
    return paint_study(5, (56, 112, 112), (5.0, 3.5, 3.5), params=params, gas=gas)


@pytest.mark.parametrize("cut", [0, 22])
def test_gas_below_the_lungs_and_over_the_table(cut):
    """Stomach and bowel under the diaphragm, air between back and table, at voxels of 5 mm."""
    painted = gassy()
    view = np.s_[:, cut : 112 - cut, cut : 112 - cut]
    lung = (painted.structures == STRUCTURES["lung"])[view]
    kernel = np.ones((5, 5), np.uint8)
    closed = np.stack([cv2.morphologyEx(k.astype(np.uint8), cv2.MORPH_CLOSE, kernel) for k in lung])
    vessels = np.isin(painted.structures, [STRUCTURES["artery"], STRUCTURES["vein"]])[view]
    truth = lung | ((closed > 0) & vessels)
    assert dice(lung_mask(painted.hu[view], (3.5, 3.5, 5.0)), truth) > 0.97


@pytest.mark.parametrize("gap_hu", [AIR, -920])
def test_a_belly_on_a_table_has_no_lungs(gap_hu):
    """Air, or a cushion, between the back and a table that holds it at both sides."""
    hu, _ = thorax(left=False, right=False)
    rows, cols = np.mgrid[:240, :240] * 1.5
    under = ellipse(rows, cols, (170, 180), (130, 160)) & (rows > 200) & (hu[25] < -500)
    hu[:, under] = gap_hu
    hu[:, under & ~ellipse(rows, cols, (170, 180), (124, 154))] = TISSUE
    assert lung_mask(hu, (1.5, 1.5, 3.0)) is None


def test_foam_between_body_and_rim_is_no_lung():
    """A table that the body meets at both rims of a round field of view."""
    spacing = (1.5, 1.5, 3.0)
    hu, truth = thorax(spacing)
    hu, truth = hu[:, :, 40:200].copy(), truth[:, :, 40:200]
    below = (np.mgrid[:240, :160][0] * 1.5 > 180) & (hu[25] < -500) & ~truth.any(axis=0)
    hu[:, below] = -930
    mask = lung_mask(hu, spacing)
    assert not mask[:, below].any()
    assert dice(mask, truth) > 0.95


def test_emphysema_is_lung():
    """As dark as gas, but with lung around it."""
    spacing = (1.5, 1.5, 3.0)
    hu, truth = thorax(spacing)
    rows, cols = np.mgrid[:240, :240] * 1.5
    bulla = ellipse(rows, cols, (170, 105), (35, 22))
    hu[15:35, bulla] -= 120
    mask = lung_mask(hu, spacing)
    assert mask[15:35, bulla].mean() > 0.95
    assert dice(mask, truth) > 0.95


FAULTS = Path(__file__).resolve().parents[3] / "shared" / "faults"


def fault(name):
    if not (FAULTS / name).exists():
        pytest.skip("no ../shared/faults")
    image = nibabel.load(FAULTS / name)
    turn = turn_of(np.diag([-1, -1, 1, 1]) @ image.affine)
    hu = turn.apply(np.asanyarray(image.dataobj))
    step, row, col = np.abs(np.linalg.norm(image.affine[:3, :3], axis=0))[::-1]
    return np.rint(hu).clip(-1024, 3071).astype(np.int16), (float(row), float(col), float(step))


def test_a_real_stomach_is_no_lung():
    hu, spacing = fault("stomach_taken_for_lung.nii.gz")
    truth, _ = fault("stomach_taken_for_lung_truth.nii.gz")
    assert dice(lung_mask(hu, spacing), truth > 127) > 0.97


def test_a_real_gap_over_the_table_is_no_lung():
    hu, spacing = fault("table_gap_taken_for_lung.nii.gz")
    assert lung_box(hu, spacing) is None  # of the lungs less than 100 ml are in the scan


def test_real_lungs_up_to_the_sides():
    hu, spacing = fault("lungs_cut_at_sides.nii.gz")
    x, _, width, _ = lung_box(hu, spacing)
    assert (x, width) == (0, hu.shape[2])


@settings(max_examples=8)
@given(
    row=st.floats(1.0, 2.9),
    col=st.floats(1.0, 2.9),
    step=st.floats(2.0, 8.0),
    seed=st.integers(0, 99),
)
def test_box_for_any_spacing(row, col, step, seed):
    """Non-square pixels, thin and thick slices, sizes that the grid does not divide."""
    shape = (max(5, round(150 / step)), round(360 / row), round(360 / col))
    spacing = (row, col, step)
    hu, truth = thorax(spacing, shape, seed=seed)
    assert_around(lung_box(hu, spacing), truth, spacing, tolerance_mm=4 * GRID_MM)


def test_margin_stays_within_the_slice():
    hu, _ = thorax()
    x, y, w, h = lung_box(hu, (1.5, 1.5, 3.0), margin_mm=15)
    x0, y0, w0, h0 = lung_box(hu, (1.5, 1.5, 3.0))
    assert (x, y, w, h) == (x0 - 10, y0 - 10, w0 + 20, h0 + 20)
    assert lung_box(hu, (1.5, 1.5, 3.0), margin_mm=900) == (0, 0, 240, 240)


@pytest.mark.parametrize("missing", ["left", "right"])
def test_a_missing_lung_is_mirrored(missing):
    """A flooded lung still has arteries with emboli: the box covers both sides."""
    hu, _ = thorax(**{missing: False})
    _, both = thorax()
    assert_around(lung_box(hu, (1.5, 1.5, 3.0)), both, (1.5, 1.5, 3.0), tolerance_mm=6 * GRID_MM)


def test_no_lungs():
    spacing = (1.5, 1.5, 3.0)
    hu, _ = thorax(left=False, right=False)
    assert lung_mask(hu, spacing) is None
    assert lung_box(hu, spacing) is None
    assert lung_box(np.full((5, 64, 64), AIR, np.int16), (3, 3, 3)) is None
    assert lung_box(np.full((5, 64, 64), TISSUE, np.int16), (3, 3, 3)) is None


def test_unknown_spacing_takes_a_usual_field_of_view():
    hu, truth = thorax((1.5, 1.5, 3.0))
    box = lung_box(hu, (None, None, None))
    assert_around(box, truth, (1.5, 1.5, 3.0))


def test_coarse_slices_give_the_box_of_the_study_and_their_share_of_lung():
    spacing = (0.8, 0.9, 1.0)
    hu, truth = thorax(spacing, (120, 430, 390))
    coarse, step = coarse_grid(hu, spacing)
    assert step == 3
    box, shares = coarse_lungs(coarse, hu.shape[1:], spacing)
    assert_around(box, truth, spacing)
    np.testing.assert_allclose(shares, truth[::step].mean(axis=(1, 2)), atol=0.03)


def test_shrinking_takes_block_means():
    hu = np.arange(24, dtype=np.int16).reshape(4, 6)
    expected = hu.reshape(2, 2, 3, 2).mean((1, 3))
    assert np.abs(shrink_slice(hu, 2, 2) - expected).max() <= 0.5
    assert shrink_slice(hu, 3, 4).shape == (2, 2)
    np.testing.assert_array_equal(shrink_slice(hu, 1, 1), hu)


@pytest.mark.parametrize("case", ["004", "017"])
def test_lungs_of_real_patients(shared_data, case):
    """Real lungs in a painted body, contrast in the vessels."""
    image = nibabel.load(shared_data / "anatomy" / f"{case}.nii.gz")
    turn = turn_of(np.diag([-1, -1, 1, 1]) @ image.affine)
    labels = turn.apply(np.asanyarray(image.dataobj))
    chest = np.zeros(labels.shape[1:], np.uint8)
    outline = np.argwhere((labels > 0).any(0))[:, ::-1].astype(np.int32)
    cv2.fillConvexPoly(chest, cv2.convexHull(outline), 1)
    hu = np.full(labels.shape, AIR, np.int16)
    hu[:, cv2.dilate(chest, np.ones((19, 19), np.uint8)) > 0] = TISSUE
    hu[labels == 1] = LUNG
    hu[labels >= 2] = VESSEL
    lungs = labels == 1
    spacing = (1.5, 1.5, 1.5)
    assert_around(lung_box(hu, spacing), lungs, spacing)
    assert lung_mask(hu, spacing)[lungs].mean() > 0.95


@pytest.mark.parametrize(
    ("case", "seed"), [("009", 8), pytest.param("019", 18, marks=pytest.mark.slow)]
)
def test_dice_on_painted_studies_of_real_patients(shared_data, case, seed):
    """One of them reaches the rim of the field of view. tools/check_findings.py does them all."""
    body = read_label_map(shared_data / "anatomy" / f"{case}.nii.gz")
    params = PhantomParams(consolidation_rate=0.0, effusion_rate=0.0)
    painted = paint_study(seed, (60, 192, 192), anatomy=body, params=params)
    step, row, col = painted.spacing
    mask = lung_mask(painted.hu, (row, col, step))
    lung = painted.structures == STRUCTURES["lung"]
    truth = np.stack([ndimage.binary_fill_holes(level) for level in lung])
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.97
