from pathlib import Path

import pytest
from headers import header

from pe_unified.ct.errors import DataError
from pe_unified.ct.series import axial_ct, choose_series, drop_duplicates


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


def test_acquisitions_over_the_same_places_are_scans_of_their_own():
    """Before and after contrast in one series: never slices of both."""
    plain = [header(k, z=k, acquisition=1) for k in range(10)]
    enhanced = [header(20 + k, z=k, acquisition=2) for k in range(10)]
    tracking = [header(40 + k, z=4, acquisition=3) for k in range(5)]
    mixed = [each for pair in zip(plain, enhanced, strict=True) for each in pair] + tracking
    choice = choose_series(mixed, "folder")
    assert choice.slices == enhanced
    assert choice.reason.startswith("series s1#2, of 3: 10 axial slices")
    assert any("10 slices of series s1#1," in note for note in choice.notes)
    assert choose_series(mixed, "folder", "s1#1").slices == plain
    assert choose_series(mixed, "folder", "s1").slices == enhanced


def test_acquisitions_that_go_on_where_others_end_are_one_scan():
    """One rotation each, or a few blocks with a slice in common."""
    rotations = [header(k, z=k, acquisition=k + 1) for k in range(12)]
    assert choose_series(rotations, "folder").slices == rotations
    blocks = [header(k, z=k - (k > 5), acquisition=1 + (k > 5)) for k in range(12)]
    choice = choose_series(blocks, "folder")
    assert len(choice.slices) == 11 and "#" not in choice.reason
