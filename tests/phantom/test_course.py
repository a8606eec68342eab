"""Places in a vessel, against what a ruler gives."""

import numpy as np
from straight_vessel import RADIUS, straight_tree

from pe_unified.phantom.course import vessel_course
from pe_unified.phantom.tree import LOBAR, VesselTree

TOWARD = np.array([1.0, 0, 0])


def test_a_straight_vessel_is_measured_by_hand() -> None:
    points = np.array([[3.0, 4, 30], [0, -6, 3], [0, 0, 58], [25, 0, 30]])
    course = vessel_course(points, straight_tree(), np.arange(31), TOWARD, 1.15)
    np.testing.assert_allclose(course.across[:3], [[3, 4], [0, -6], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(course.along[:3], [30, 3, 58])
    np.testing.assert_allclose(course.radius, RADIUS)
    # Full from 10 mm on from either end; the last point is not in the vessel.
    np.testing.assert_allclose(course.full, [1, 0.3, 0.2, 0])


def test_what_lies_in_the_outer_bend_keeps_its_distance() -> None:
    """Around a corner of two pieces the wall is a sphere around it."""
    corner = VesselTree(
        np.array([[0.0, 0, 0], [0, 0, 20], [20, 0, 20]]),
        np.full(3, 6.0),
        np.array([-1, 0, 1]),
        np.full(3, LOBAR, dtype=np.int8),
        np.ones(3, dtype=np.int8),
    )
    angle = np.linspace(0.05, np.pi / 2 - 0.05, 9)
    points = np.stack([-5 * np.cos(angle), 0 * angle, 20 + 5 * np.sin(angle)], axis=1)
    course = vessel_course(points, corner, np.arange(3), TOWARD, 1.15)
    np.testing.assert_allclose(np.linalg.norm(course.across, axis=1), 5)
    np.testing.assert_allclose(course.along, 20)


def test_clot_goes_on_beyond_a_piece_that_is_too_thin_for_it() -> None:
    nodes = np.delete(np.arange(31), 15)
    course = vessel_course(np.array([[3.0, 4, 50]]), straight_tree(), nodes, TOWARD, 1.15)
    np.testing.assert_allclose(course.across, [[3, 4]], atol=1e-6)
    np.testing.assert_allclose(course.along, 50)
