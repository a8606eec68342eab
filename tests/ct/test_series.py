from dataclasses import replace
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
    with pytest.raises(DataError, match=r"folder: MR series, no CT \(left out 2 x modality MR\)"):
        choose_series([header(1, modality="MR"), header(2, modality="MR")], "folder")
    many = [header(k, modality="PT", frames=40) for k in range(2)]
    with pytest.raises(DataError, match=r"PET series, no CT .*; point to the folder of the CT"):
        choose_series(many, "folder")


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


def scan(count, start=0.0, step=1.0, acquisition=1, **changes):
    first = 1000 * acquisition
    return [
        header(first + k, z=start + step * k, acquisition=acquisition, **changes)
        for k in range(count)
    ]


def mixed(*scans):
    """As files lie in a folder: by name, not by scan."""
    return sorted((each for one in scans for each in one), key=lambda item: item.sop_uid[::-1])


def of(choice):
    return {header.acquisition for header in choice.slices}, len(choice.slices)


@pytest.mark.parametrize("offset", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("plain", [100, 101, 90])
def test_acquisitions_over_the_same_heights_are_scans_of_their_own(offset, plain):
    """Before and after contrast in one series: never slices of both, whatever their grids."""
    tracking = [header(40 + k, z=40.4, acquisition=2) for k in range(8)]
    files = mixed(scan(plain), tracking, scan(100, offset, acquisition=3))
    choice = choose_series(files, "folder")
    assert of(choice) == ({3}, 100)
    assert choice.reason.startswith("series s1#3, of 3: 100 axial slices")
    later = "is a later acquisition, about as long as the longest"
    assert choice.reason.endswith(f"it {later if plain > 100 else 'has the most slices'}")
    assert any(f"{plain} slices of series s1#1," in note for note in choice.notes)
    for number, count in ((1, plain), (2, 1), (3, 100)):
        assert of(choose_series(files, "folder", f"s1#{number}")) == ({number}, count)
    assert of(choose_series(files, "folder", "s1")) == ({3}, 100)
    with pytest.raises(DataError, match="the series here are: s1#1, s1#2, s1#3"):
        choose_series(files, "folder", "s1#4")


def test_two_phases_at_the_same_places_are_not_mixed():
    """One series, no acquisition numbers, files named by chance: one phase is kept whole."""
    plain, enhanced = scan(60), scan(60, acquisition=2)
    files = [replace(each, acquisition=0) for each in mixed(plain, enhanced)]
    choice = choose_series(files, "folder")
    assert {each.instance_number // 1000 for each in choice.slices} == {1}
    assert len(choice.slices) == 60 and "left out 60 duplicate slices" in choice.notes


def test_heights_may_be_said_by_the_location_alone():
    def placeless(slices):
        return [
            header(
                each.instance_number, acquisition=each.acquisition, slice_location=each.position[2]
            )
            for each in slices
        ]

    files = placeless(mixed(scan(50), scan(50, acquisition=2)))
    assert of(choose_series(files, "folder")) == ({2}, 50)


def test_acquisitions_that_go_on_where_others_end_are_one_scan():
    """One rotation each, or a few blocks with a slice in common."""
    rotations = [header(k, z=k, acquisition=k + 1) for k in range(12)]
    assert choose_series(rotations, "folder").slices == rotations
    blocks = [header(k, z=k - (k > 5), acquisition=1 + (k > 5)) for k in range(12)]
    choice = choose_series(blocks, "folder")
    assert len(choice.slices) == 11 and "#" not in choice.reason


def test_two_scans_in_blocks():
    plain = [*scan(50), *scan(50, 50.0, acquisition=2)]
    enhanced = [*scan(60, acquisition=3), *scan(40, 60.0, acquisition=4)]
    files = mixed(plain, enhanced)
    assert of(choose_series(files, "folder")) == ({3, 4}, 100)
    # As the notes name them, after their first acquisitions; another number names a part.
    assert of(choose_series(files, "folder", "s1#1")) == ({1, 2}, 100)
    assert of(choose_series(files, "folder", "s1#3")) == ({3, 4}, 100)
    assert of(choose_series(files, "folder", "s1#4")) == ({4}, 40)


def test_a_much_shorter_later_acquisition_is_not_the_scan():
    files = mixed(scan(100), scan(40, 30.0, acquisition=2))
    assert of(choose_series(files, "folder")) == ({1}, 100)


def test_an_acquisition_without_a_number_can_be_named():
    files = mixed(scan(30, acquisition=0), scan(30, acquisition=5))
    assert of(choose_series(files, "folder", "s1#0")) == ({0}, 30)
    assert of(choose_series(files, "folder")) == ({5}, 30)
