"""Tubes, grids and fields against what geometry says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.phantom.grid import (
    Field,
    Grid,
    coverage,
    ellipsoid,
    random_field,
    smooth_difference,
    smooth_union,
)
from pe_unified.phantom.tubes import Tubes, line_tubes, no_tubes, paint_tubes, smooth_line

GRID = Grid((40, 48, 44), (1.5, 1.0, 1.0), (-20.0, -24.0, -30.0))


def _tube(start: tuple, end: tuple, radius: float) -> Tubes:
    ends = np.array([start, end], dtype=float)
    return Tubes(ends[:1], ends[1:], np.array([radius]), np.array([radius]))


def _painted(tubes: Tubes) -> np.ndarray:
    volume = np.zeros(GRID.shape, dtype=np.uint8)
    paint_tubes(volume, GRID, tubes)
    return volume


@settings(max_examples=25)
@given(
    st.floats(2.0, 7.0),
    st.tuples(*[st.floats(-8, 8)] * 3),
    st.tuples(*[st.floats(-8, 8)] * 3),
)
def test_a_tube_has_the_volume_of_a_capsule(radius: float, start: tuple, end: tuple) -> None:
    volume = _painted(_tube(start, end, radius))
    length = float(np.linalg.norm(np.subtract(end, start)))
    expected = np.pi * radius**2 * length + 4 / 3 * np.pi * radius**3
    painted = volume.sum(dtype=float) / 255 * np.prod(GRID.spacing)
    assert painted == pytest.approx(expected, rel=0.12)


def test_a_thin_tube_fills_its_share_of_the_pixels() -> None:
    volume = _painted(_tube((0.3, -0.2, -20), (0.3, -0.2, 20), 0.3))
    area = volume[20].sum() / 255
    assert 0.1 < area < 0.6
    assert volume.max() < 128


def test_order_and_splitting_have_no_effect() -> None:
    rng = np.random.default_rng(1)
    start, end = rng.uniform(-15, 15, (2, 30, 3))
    tubes = Tubes(start, end, rng.uniform(0.4, 4, 30), rng.uniform(0.4, 4, 30))
    forward = _painted(tubes)
    backward = _painted(tubes.where(np.arange(30)[::-1]))
    assert (forward == backward).all()


def test_tubes_outside_the_grid_paint_nothing() -> None:
    assert not _painted(_tube((500, 0, 0), (520, 0, 0), 5)).any()
    assert not _painted(no_tubes()).any()
    assert _painted(_tube((-40, 0, 0), (0, 0, 0), 3)).any()


def test_the_border_cuts_tubes_and_moves_none() -> None:
    """The same tubes on a part of the grid."""
    rng = np.random.default_rng(5)
    start, end = rng.uniform(-22, 22, (2, 40, 3))
    tubes = Tubes(start, end, rng.uniform(0.3, 5, 40), rng.uniform(0.3, 5, 40))
    part = Grid((9, 17, 30), GRID.spacing, tuple(GRID.point_of(np.array([12, 20, 8]))))
    volume = np.zeros(part.shape, dtype=np.uint8)
    paint_tubes(volume, part, tubes)
    assert volume.any()
    assert (volume == _painted(tubes)[12:21, 20:37, 8:38]).all()


def test_a_line_goes_through_its_points() -> None:
    points = np.array([[0.0, 0, 0], [10, 5, 0], [20, 0, 5]])
    line = smooth_line(points, np.array([3.0, 2.0, 1.0]))
    assert np.allclose(line[0, :3], points[0])
    assert np.allclose(line[-1, :3], points[-1])
    assert np.linalg.norm(line[:, :3] - points[1], axis=1).min() < 1.6
    assert ((line[:, 3] >= 1) & (line[:, 3] <= 3)).all()
    assert len(line_tubes(line)) == len(line) - 1


def test_indices_and_positions_are_inverse() -> None:
    index = np.array([[0, 0, 0], [3, 7, 11]])
    assert np.allclose(GRID.index_of(GRID.point_of(index)), index)
    assert GRID.point_of(np.array([2, 0, 0]))[2] == GRID.z_of(2) == -27.0


def test_a_field_is_read_where_it_was_written() -> None:
    x, y, z = GRID.axes()
    field = Field((2 * x - y + 0.5 * z).astype(np.float32), GRID)
    target = Grid((1, 20, 24), (1.0, 0.7, 0.7), (-8.0, -7.0, 2.2))
    tx, ty, _ = target.axes()
    # OpenCV's cubic kernel is off by up to a tenth of a sample on a slope.
    assert np.abs(field.plane(2.2, target) - (2 * tx - ty + 1.1)[0]).max() < 0.25
    points = np.array([[1.3, -2.1, 4.4]])
    assert field.at(points)[0] == pytest.approx(2 * 1.3 + 2.1 + 2.2, abs=1e-3)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(-35, 45), st.floats(-3, 6))
def test_what_a_field_cannot_reach_is_nowhere_in_its_planes(
    seed: int, z: float, level: float
) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid((20, 20, 20), (2.0, 2.0, 2.0), (-20.0, -20.0, -20.0))
    field = Field(ellipsoid(grid.axes(), rng.uniform(-9, 9, 3), rng.uniform(3, 12, 3)), grid)
    lowest = field.plane(z, GRID).min()
    assert field.reaches(level, z) or lowest > level
    assert not field.reaches(lowest - 30, z)


def test_an_ellipsoid_is_zero_on_its_surface() -> None:
    frame = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))[0]
    centre, radii = np.array([1.0, 2, 3]), np.array([9.0, 6, 4])
    for sign in (-1, 1):
        for axis, radius in zip(frame, radii):
            tip = centre + sign * radius * axis
            at = tuple(np.full((1, 1, 1), v, dtype=np.float32) for v in tip)
            assert abs(float(ellipsoid(at, centre, radii, frame)[0, 0, 0])) < 1e-3
    middle = tuple(np.full((1, 1, 1), v, dtype=np.float32) for v in centre + 0.1)
    assert float(ellipsoid(middle, centre, radii, frame)[0, 0, 0]) < 0


def test_union_and_coverage() -> None:
    a, b = np.array([-3.0, 5, 5]), np.array([4.0, -2, 5])
    union = smooth_union(a, b, 1.0)
    assert (union <= np.minimum(a, b) + 1e-6).all()
    np.testing.assert_allclose(smooth_difference(a, b, 1.0), -smooth_union(-a, b, 1.0))
    assert coverage(np.array([-9.0, 0, 9]), 1.0).tolist() == [1.0, 0.5, 0.0]


def test_texture_covers_the_grid_with_unit_variance() -> None:
    field = random_field(np.random.default_rng(3), GRID, 6.0)
    plane = field.plane(GRID.z_of(10), GRID)
    assert plane.shape == GRID.shape[1:]
    assert 0.4 < plane.std() < 1.6
