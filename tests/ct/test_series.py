from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.ct.errors import DataError
from pe_unified.ct.headers import SliceHeader
from pe_unified.ct.series import axial_ct, choose_series, drop_duplicates, stack_slices

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def header(k, z=None, **changes):
    fields = {
        "path": Path(f"D{k}.dcm"),
        "sop_uid": f"1.{k}",
        "series_uid": "s1",
        "study_uid": "st",
        "modality": "CT",
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "rows": 8,
        "cols": 8,
        "instance_number": k,
        "position": None if z is None else (-10.0, -20.0, float(z)),
        "orientation": AXIAL,
        "pixel_spacing": (0.7, 0.8),
    }
    return SliceHeader(**{**fields, **changes})


@settings(max_examples=50, deadline=None)
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


def test_the_longest_axial_series_is_the_scan():
    scan = [header(k, z=k) for k in range(10)]
    scout = [header(90, z=0, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))]
    lung = [header(20 + k, z=k, series_uid="s2") for k in range(6)]
    coronal = [header(40, z=0, orientation=(1, 0, 0, 0, 0, -1.0), series_uid="s3")]
    dose = [header(50, modality="SR"), header(51, samples=3), header(52, frames=40)]
    odd = [header(60, z=4.5, rows=16)]
    choice = choose_series([*scout, *lung, *scan, *coronal, *dose, *odd], "folder")
    assert choice.slices == scan
    notes = " / ".join(choice.notes)
    for part in ("localizer", "not axial", "modality SR", "colour", "multi-frame", "s2", "16 x 8"):
        assert part in notes
    assert choose_series([*lung, *scan], "folder", "s2").slices == lung
    with pytest.raises(DataError, match="the series here are: s1, s2"):
        choose_series([*lung, *scan], "folder", "s9")


def test_no_ct_names_what_is_there():
    with pytest.raises(DataError, match=r"folder: no axial CT slice \(left out 2 x modality MR\)"):
        choose_series([header(1, modality="MR"), header(2, modality="MR")], "folder")


def test_silence_is_no_reason_to_leave_a_slice_out():
    silent = [header(1, modality="", image_type=(), orientation=None)]
    assert axial_ct(silent).slices == silent


def test_duplicates():
    first, second = header(1, z=1), header(2, z=2)
    same_file = header(1, z=1, path=Path("copy of D1.dcm"))
    same_place = header(7, z=2)
    kept, repeats = drop_duplicates([first, second, same_file, same_place])
    assert kept == [first, second]
    assert repeats == [same_file, same_place]
    anonymous = [header(k, sop_uid="") for k in range(3)]
    assert drop_duplicates(anonymous) == (anonymous, [])
    # One UID on every slice, as careless anonymisers leave it, makes no duplicates.
    careless = [header(k, z=k, sop_uid="1") for k in range(3)]
    assert drop_duplicates(careless) == (careless, [])
