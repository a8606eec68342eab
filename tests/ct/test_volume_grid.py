"""Grids over studies: linear between voxels, where the slices really lie, and back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.ct.lung_crop import find_lung_grid, lung_grid, require_volume
from pe_unified.ct.study import CTStudy
from pe_unified.ct.volume_grid import SpreadMap, grid_over, levels_of
from pe_unified.errors import DataError
from pe_unified.phantom.study import STRUCTURES, paint_study


def study_of(hu, heights, row_mm=1.5, col_mm=1.25):
    """A study whose slices lie at these heights, mm."""
    steps = np.diff(heights)
    return CTStudy(
        source=Path("case"),
        shape=hu.shape,
        spacing_mm=(row_mm, col_mm, float(np.median(steps)) if len(steps) else 1.0),
        origin_mm=(5.0, 6.0, float(heights[0])),
        direction=np.eye(3),
        step_mm=(0.0, 0.0, float(steps.mean()) if len(steps) else 1.0),
        z_mm=tuple(float(z) for z in heights),
        read=lambda index: hu[index],
        places_mm=np.array([[5.0, 6.0, z] for z in heights]),
    )


def field(heights, row_mm=1.5, col_mm=1.25, shape=(12, 10)):
    """HU that rise linearly with the place, and the study that shows them."""
    rows, cols = np.arange(shape[0]) * row_mm, np.arange(shape[1]) * col_mm
    z = np.asarray(heights, float)
    hu = 3 * z[:, None, None] + 5 * rows[:, None] - 7 * cols
    return hu.astype(np.float32), study_of(hu.astype(np.float32), heights, row_mm, col_mm)


UNEVEN = [10.0, 12.0, 14.5, 16.0, 18.0, 20.4]


def test_values_are_linear_between_voxels_and_lie_where_the_grid_says():
    _, study = field(UNEVEN)
    grid = grid_over(study, (2, 1, 7, 10), (1, 5), 1.1)
    found = np.stack(list(levels_of(study.slice_hu, grid)))
    assert found.shape == grid.shape
    # 8.4 mm, 13.5 mm and 7.5 mm from the first voxel to the last.
    assert grid.shape == (8, 13, 7)
    points = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 3)
    places = study.positions_mm(grid.indices(points.astype(float)))
    x, y, z = (places - [5.0, 6.0, 0.0]).T
    np.testing.assert_allclose(found.ravel(), 3 * z + 5 * y - 7 * x, atol=1e-3)
    np.testing.assert_allclose(np.diff(z.reshape(grid.shape)[:, 0, 0]), 1.1)


@settings(max_examples=25)
@given(
    step=st.floats(0.4, 4.0),
    row_mm=st.floats(0.5, 2.0),
    col_mm=st.floats(0.5, 2.0),
)
def test_a_linear_field_comes_through_any_grid_and_back(step, row_mm, col_mm):
    hu, study = field(UNEVEN, row_mm, col_mm)
    grid = grid_over(study, (0, 0, 10, 12), (0, 5), step)
    values = np.stack(list(levels_of(study.slice_hu, grid)))
    spread = SpreadMap(values, grid, study.shape)
    for index in range(len(study)):
        seen = spread.slice(index)
        if UNEVEN[index] - UNEVEN[0] > (grid.shape[0] - 1) * step + 1e-9:
            assert not seen.any()
            continue
        rows = np.arange(12) <= grid.rows[-1] + 1e-9
        cols = np.arange(10) <= grid.cols[-1] + 1e-9
        inside = np.ix_(rows, cols)
        np.testing.assert_allclose(seen[inside], hu[index][inside], atol=2e-3)
        assert not seen[~rows].any() and not seen[:, ~cols].any()


def test_each_slice_is_read_once():
    _, study = field(UNEVEN)
    grid = grid_over(study, (0, 0, 10, 12), (0, 5), 0.4)
    read = []
    list(levels_of(lambda index: read.append(index) or study.slice_hu(index), grid))
    assert read == [0, 1, 2, 3, 4, 5]


def test_voxels_are_held_up_to_half_a_step_beyond_the_grid():
    _, study = field([0.0, 1.0, 2.0, 3.0])
    grid = grid_over(study, (2, 2, 6, 6), (1, 2), 1.0)
    points = np.array([[1, 2, 2], [0, 2, 2], [2, 7, 7], [2, 7, 8], [1, 1, 2]])
    assert grid.held(points).tolist() == [True, False, True, False, False]


def unknown(study):
    return replace(study, spacing_mm=(1.5, None, 2.0))


def partly(study):
    return replace(study, z_mm=(None, *study.z_mm[1:]))


@pytest.mark.parametrize(
    ("heights", "change", "said"),
    [
        ([0.0], None, "a single slice is not a volume"),
        ([0.0, 2.0, 4.0], unknown, "spacing of its voxels is unknown"),
        ([0.0, 2.0, 4.0], partly, "heights of some slices are unknown"),
        ([0.0, 2.0, 2.0, 4.0], None, "lie at the height of others"),
        ([0.0, 2.0, 4.0, 10.0], None, "2 slices are missing"),
        ([0.0, 30.0, 60.0], None, "30 mm apart"),
    ],
)
def test_what_is_no_volume_is_refused_with_the_cure(heights, change, said):
    _, study = field(heights)
    with pytest.raises(DataError, match=said) as raised:
        require_volume(change(study) if change else study)
    assert raised.value.cure


def test_slices_unevenly_spaced_are_a_volume():
    require_volume(field(UNEVEN)[1])


def test_lungs_are_cropped_to_with_a_margin():
    _, study = field(np.arange(20.0) * 3)
    shares = [0.0] * 6 + [0.2] * 5 + [0.0] * 9
    grid = lung_grid(study, (1, 2, 5, 6), shares, 1.0)
    assert (grid.levels[0], grid.levels[-1]) == (4.0, 12.0)  # 6 mm are two slices
    assert (grid.rows[0], grid.cols[0]) == (2.0, 1.0)


def test_lungs_that_are_found_lie_in_the_grid():
    painted = paint_study(4, (24, 96, 96))
    slice_mm, row_mm, col_mm = painted.spacing
    study = study_of(painted.hu, np.arange(24.0) * slice_mm, row_mm, col_mm)
    grid = find_lung_grid(study, 2.0)
    lungs = np.argwhere(painted.structures == STRUCTURES["lung"])
    assert grid.held(lungs).mean() > 0.97
    everything = np.argwhere(painted.hu > -5000)
    assert grid.held(everything).mean() < 0.75


def test_a_study_without_lungs_is_refused():
    hu = np.full((12, 64, 64), 40, np.int16)
    with pytest.raises(DataError, match="no lungs are found"):
        find_lung_grid(study_of(hu, np.arange(12.0) * 3), 1.0)
