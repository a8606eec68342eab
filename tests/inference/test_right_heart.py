"""Ventricles as ellipses, whose chords are known, and as the phantom paints them."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.inference.right_heart import NotMeasurable, measure_ventricles
from pe_unified.phantom.grid import Grid
from pe_unified.phantom.heart import build_heart
from pe_unified.phantom.study_plan import plan_study
from pe_unified.phantom.thorax import procedural_anatomy


def ellipse(centre, radii, angle, spacing, size=150.0):
    """bool (rows, cols): an ellipse whose second radius lies ``angle`` degrees from x; mm."""
    rows, cols = (round(size / each) for each in spacing)
    y, x = np.meshgrid(np.arange(rows) * spacing[0], np.arange(cols) * spacing[1], indexing="ij")
    across = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    dx, dy = x - centre[0], y - centre[1]
    t, s = dx * across[0] + dy * across[1], -dx * across[1] + dy * across[0]
    return (t / radii[1]) ** 2 + (s / radii[0]) ** 2 <= 1


def heart(right_mm, left_mm, angle=40.0, spacing=(0.7, 0.7), gap=9.0, scale=1.0):
    """Two slices of two ellipses side by side, long axes parallel: bool (2, rows, cols) each.

    The second slice shows both smaller."""
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    middle = np.array([75.0, 75.0])
    masks = []
    for width, side in ((right_mm, -1), (left_mm, 1)):
        slices = []
        for part in (1.0, 0.8):
            across = scale * part * width / 2
            centre = middle + side * (across + gap / 2) * along
            slices.append(ellipse(centre, (scale * part * 32, across), angle, spacing))
        masks.append(np.stack(slices))
    return masks


@pytest.mark.parametrize(("right", "left"), [(30.0, 40.0), (40.0, 40.0), (45.0, 30.0)])
def test_diameters_of_ellipses_are_their_axes(right, left):
    found = measure_ventricles(*heart(right, left), (0.7, 0.7))
    assert found.right.mm == pytest.approx(right, abs=1.0)
    assert found.left.mm == pytest.approx(left, abs=1.0)
    assert found.ratio == pytest.approx(right / left, abs=0.04)
    assert (found.right.index, found.left.index) == (0, 0)


@settings(max_examples=40)
@given(
    angle=st.floats(0, 180),
    row=st.floats(0.5, 1.5),
    col=st.floats(0.5, 1.5),
    right=st.floats(25, 45),
    left=st.floats(25, 45),
)
def test_neither_rotation_nor_the_shape_of_pixels_changes_the_millimetres(
    angle, row, col, right, left
):
    found = measure_ventricles(*heart(right, left, angle, (row, col)), (row, col))
    assert found.right.mm == pytest.approx(right, abs=2.2 * max(row, col))
    assert found.left.mm == pytest.approx(left, abs=2.2 * max(row, col))


@functools.cache
def plain_heart():
    return measure_ventricles(*heart(36.0, 30.0), (0.7, 0.7))


@settings(max_examples=40)
@given(scale=st.floats(0.6, 1.2))
def test_diameters_grow_with_the_heart_and_the_ratio_stays(scale):
    plain = plain_heart()
    scaled = measure_ventricles(*heart(36.0, 30.0, scale=scale), (0.7, 0.7))
    assert scaled.right.mm == pytest.approx(scale * plain.right.mm, abs=1.2)
    assert scaled.ratio == pytest.approx(plain.ratio, abs=0.07)


def test_each_ventricle_is_measured_where_it_is_widest_and_the_ends_say_where():
    right, left = heart(40.0, 30.0, angle=0.0)
    found = measure_ventricles(right[::-1], left, (0.7, 0.7))
    assert (found.right.index, found.left.index) == (1, 0)
    (x1, y1), (x2, y2) = found.right.ends
    assert abs(x2 - x1) * 0.7 == pytest.approx(40.0, abs=1.0)
    assert y1 == pytest.approx(y2, abs=0.5)
    # The septum is 9 mm thick, its middle at 75 mm, where a pixel begins half of it earlier.
    assert max(x1, x2) * 0.7 == pytest.approx(70.5 + 0.35, abs=0.8)
    assert y1 * 0.7 == pytest.approx(75 + 0.35, abs=2.5)


def test_mirrored_and_swapped_hearts_have_the_ratio_that_follows():
    right, left = heart(40.0, 30.0)
    plain = measure_ventricles(right, left, (0.7, 0.7))
    mirrored = measure_ventricles(right[..., ::-1], left[..., ::-1], (0.7, 0.7))
    swapped = measure_ventricles(left, right, (0.7, 0.7))
    assert mirrored.ratio == pytest.approx(plain.ratio, abs=0.02)
    assert swapped.ratio == pytest.approx(1 / plain.ratio, rel=0.01)


def test_holes_and_specks_do_not_shorten_or_lengthen_a_diameter():
    right, left = heart(40.0, 30.0, angle=0.0)
    plain = measure_ventricles(right, left, (0.7, 0.7))
    row, col = (round(float(each)) for each in np.argwhere(left[0]).mean(axis=0))
    left[0, row - 3 : row + 4, col - 2 : col + 3] = False  # a papillary muscle
    left[0, row, -8:-4] = True  # beyond the free wall
    again = measure_ventricles(right, left, (0.7, 0.7))
    assert again.left.mm == pytest.approx(plain.left.mm, abs=0.1)
    assert again.right.mm == pytest.approx(plain.right.mm, abs=0.1)


def test_slices_that_show_little_septum_do_not_count():
    """The outflow tract lies above most of the left ventricle, and may be wide."""
    right, left = heart(30.0, 40.0, angle=0.0)
    outflow, tip = np.zeros_like(right[:1]), np.zeros_like(left[:1])
    outflow[0, 100:106, 20:104] = True  # 59 mm
    tip[0, 100:106, 110:118] = True
    both = np.concatenate([right, outflow]), np.concatenate([left, tip])
    assert measure_ventricles(*both, (0.7, 0.7)).right.mm == pytest.approx(30, abs=1)


def test_what_cannot_be_measured_says_why():
    right, left = heart(30.0, 40.0)
    nothing = np.zeros_like(right)
    with pytest.raises(NotMeasurable, match="the mask of the right ventricle is empty"):
        measure_ventricles(nothing, left, (0.7, 0.7))
    with pytest.raises(NotMeasurable, match="the mask of the left ventricle is empty"):
        measure_ventricles(right, nothing, (0.7, 0.7))
    apart = [np.concatenate(each) for each in ((right, nothing), (nothing, left))]
    with pytest.raises(NotMeasurable, match="no slice shows both"):
        measure_ventricles(*apart, (0.7, 0.7))
    far = heart(20.0, 20.0, gap=60.0)
    with pytest.raises(NotMeasurable, match="no septum"):
        measure_ventricles(*far, (0.7, 0.7))


def test_masks_of_a_few_pixels_are_measured_or_refused():
    right, left = np.zeros((2, 3, 9, 9), bool)
    right[:, 4, 2] = left[:, 4, 6] = True
    with pytest.raises(NotMeasurable, match="no septum"):
        measure_ventricles(right, left, (1.0, 1.0))
    right[:, 3:6, 1:3] = left[:, 3:6, 6:8] = True
    assert measure_ventricles(right, left, (1.0, 1.0)).ratio == pytest.approx(1)


@pytest.mark.parametrize("seed", [1, 2])
def test_near_the_ratio_that_the_phantom_draws(seed):
    """Its ratio is of the widest chords across the septum in space, not on axial slices."""
    plan = plan_study(seed)
    drawn = build_heart(plan, procedural_anatomy(plan))
    coarse = drawn.right_ventricle.grid
    rows, cols = (round(n * coarse.spacing[1] / 1.2) for n in coarse.shape[1:])
    slices = round(coarse.shape[0] * coarse.spacing[0] / 3)
    grid = Grid((slices, rows, cols), (3.0, 1.2, 1.2), coarse.origin)
    right, left = (
        np.stack([each.plane(grid.z_of(k), grid) < 0 for k in range(slices)])
        for each in (drawn.right_ventricle, drawn.left_ventricle)
    )
    found = measure_ventricles(right, left, (1.2, 1.2))
    assert found.ratio == pytest.approx(drawn.ratio, abs=0.1)
    assert (found.ratio >= 1) == (drawn.ratio >= 1)
