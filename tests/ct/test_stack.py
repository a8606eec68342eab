import numpy as np
import pytest
from headers import header
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.ct.stack import stack_slices


@settings(max_examples=50)
@given(st.permutations(range(12)), st.floats(0.3, 5), st.floats(-900, 900))
def test_slices_ascend_whatever_the_files_say(order, step, start):
    """Names and instance numbers are shuffled against the positions."""
    headers = [header(name, z=start + step * k) for k, name in enumerate(order)]
    shuffled = sorted(headers, key=lambda item: item.instance_number)
    stack = stack_slices(shuffled)
    assert list(stack.slices) == headers
    assert list(stack.z_mm) == pytest.approx([start + step * k for k in range(12)], abs=1e-3)
    assert stack.spacing_mm[:2] == (0.7, 0.8)
    assert stack.spacing_mm[2] == pytest.approx(step, abs=1e-3)
    assert stack.missing == 0


def test_feet_first_patients_and_tilted_gantries_ascend_too():
    tilt = (1.0, 0.0, 0.0, 0.0, 0.96593, -0.25882)
    headers = [header(k, z=k * 2.0, orientation=tilt) for k in (3, 1, 2)]
    stack = stack_slices(headers)
    assert [item.instance_number for item in stack.slices] == [1, 2, 3]
    np.testing.assert_allclose(stack.direction.T @ stack.direction, np.eye(3), atol=1e-4)
    flipped = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # the slice normal points to the feet
    stack = stack_slices([header(k, z=k, orientation=flipped) for k in (3, 1, 2)])
    assert [item.instance_number for item in stack.slices] == [1, 2, 3]
    assert stack.direction[2, 2] == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([{"slice_location": 5.0}, {"slice_location": 1.0}, {"slice_location": 3.0}], [2, 3, 1]),
        ([{"instance_number": 9}, {"instance_number": 7}, {"instance_number": 8}], [2, 3, 1]),
        ([{"instance_number": None}] * 3, [1, 2, 3]),
    ],
)
def test_order_without_positions(fields, expected):
    headers = [header(k + 1, **changes) for k, changes in enumerate(fields)]
    stack = stack_slices(headers)
    assert [int(item.path.stem[1:]) for item in stack.slices] == expected
    assert stack.origin_mm[:2] == (0, 0)


def test_missing_slices_are_counted():
    stack = stack_slices([header(k, z=1.5 * k) for k in range(20) if k not in (5, 6, 11)])
    assert stack.missing == 3
    assert stack.spacing_mm[2] == 1.5


def test_one_slice_has_no_spacing():
    assert stack_slices([header(1, z=3)]).spacing_mm == (0.7, 0.8, None)


@pytest.mark.parametrize(("true", "digits"), [(1.25, 1), (0.625, 2)])
def test_rounded_positions_do_not_add_up(true, digits):
    """The last of 241 slices is where the spacing says, to the rounding of one."""
    headers = [header(k, z=round(true * k + 1e-9, digits)) for k in range(241)]
    stack = stack_slices(headers)
    assert not stack.uneven and not stack.missing
    assert abs(240 * stack.spacing_mm[2] - headers[-1].position[2]) < 0.02
    assert abs(240 * stack.step_mm[2] - headers[-1].position[2]) < 0.02


@pytest.mark.parametrize("sense", [1.0, -1.0])
@pytest.mark.parametrize("silent", [0, 4, 8])
def test_a_slice_without_position_goes_by_its_location(sense, silent):
    """Locations count from anywhere, also downwards."""
    headers = [
        header(k, z=None if k == silent else 2.0 * k, slice_location=70 + sense * 2.0 * k)
        for k in range(9)
    ]
    stack = stack_slices(headers)
    assert list(stack.slices) == headers
    assert stack.z_mm == tuple(2.0 * k for k in range(9))
    np.testing.assert_allclose(stack.places_mm, [(-10, -20, 2.0 * k) for k in range(9)])
    assert stack.origin_mm == (-10, -20, 0) and stack.placed and not stack.contradictions


@pytest.mark.parametrize("location", [lambda k: k, lambda k: 100 - 0.94 * 2 * k])
def test_locations_may_count_slices_or_the_table(location):
    headers = [
        header(k, z=None if k == 1 else 2.0 * k, slice_location=float(location(k)))
        for k in range(9)
    ]
    assert stack_slices(headers).z_mm == pytest.approx([2.0 * k for k in range(9)], abs=1e-3)


#: Of a slice whose number says nothing of its place.
UNNUMBERED = {"instance_number": None}


def test_locations_that_fit_no_position_stand_for_themselves():
    """Or for nothing, where they are all the same."""

    def lost(locations):
        return [
            header(k, z=None if k == 3 else 2.0 * k, slice_location=float(place), **UNNUMBERED)
            for k, place in enumerate(locations)
        ]

    squares = [-(k**2) for k in range(9)]
    stack = stack_slices(lost(squares))
    assert [int(item.path.stem[1:]) for item in stack.slices] == list(range(9))
    assert stack.z_mm == tuple(float(k**2) for k in range(9))
    assert stack_slices(lost([0] * 9)).z_mm == (None,) * 9


@pytest.mark.parametrize("said", ["position", "slice_location"])
@pytest.mark.parametrize("sense", [1, -1])
def test_a_slice_that_says_no_place_goes_by_its_number(said, sense):
    """Numbers count from anywhere, also downwards."""
    headers = [
        header(50 + sense * k, **({} if k == 2 else {said: place(k)[said]})) for k in range(9)
    ]
    stack = stack_slices(headers)
    assert list(stack.slices) == headers
    assert stack.z_mm == pytest.approx([2.0 * k for k in range(9)])


def place(k):
    return {"position": (-10.0, -20.0, 2.0 * k), "slice_location": 2.0 * k}


@pytest.mark.parametrize("numbers", [[None] * 5, [7, 2, 9, 4, 4]])
def test_a_slice_that_says_nothing_takes_the_heights_from_all(numbers):
    headers = [
        header(k, z=None if k == 2 else k, instance_number=number)
        for k, number in enumerate(numbers)
    ]
    stack = stack_slices(headers)
    assert stack.z_mm == (None,) * 5 and stack.places_mm is None


@pytest.mark.parametrize("lost", ["position", "orientation"])
def test_where_the_patient_lies_may_not_be_said(lost):
    headers = [header(k, z=k, slice_location=float(k), **{lost: None}) for k in range(4)]
    stack = stack_slices(headers)
    assert not stack.placed
    assert stack.z_mm == (0, 1, 2, 3)


def test_what_cannot_be_one_scan_is_told():
    wide = [header(k, z=k, pixel_spacing=(0.7, 0.8 + 0.2 * (k == 3))) for k in range(5)]
    assert "0.7 to 1 mm" in stack_slices(wide).contradictions[0]
    same = [header(k, z=k, pixel_spacing=(0.7, 0.8 + 0.002 * (k == 3))) for k in range(5)]
    assert not stack_slices(same).contradictions
    shifted = [header(9, z=2, position=(-40.0, -20.0, 2.0)), *(header(k, z=k) for k in range(5))]
    assert stack_slices(shifted).contradictions == ("1 slices lie at the height of another one",)
    assert "1 slices lie at the height of another one" in stack_slices(shifted).notes()


def test_orientation_and_spacing_are_those_of_most_slices():
    """The first and the last one say nothing."""
    tilted = (1.0, 0.0, 0.0, 0.0, 0.96593, -0.25882)
    silent = {"orientation": None, "pixel_spacing": None}
    headers = [
        header(k, z=2.0 * k, **(silent if k in (0, 9) else {"orientation": tilted}))
        for k in range(10)
    ]
    stack = stack_slices(headers)
    np.testing.assert_allclose(stack.direction[:, 1], tilted[3:])
    assert stack.spacing_mm[:2] == (0.7, 0.8) and stack.placed
