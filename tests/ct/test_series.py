import re
from dataclasses import replace
from pathlib import Path

import pytest
from headers import header

from pe_unified.ct.series import axial_ct, choose_series, drop_duplicates
from pe_unified.ct.stack import stack_slices
from pe_unified.errors import DataError


def test_the_longest_axial_series_is_the_scan():
    scan = [header(k, z=k) for k in range(10)]
    scout = [header(90, z=0, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))]
    lung = [header(20 + k, z=k, series_uid="s2") for k in range(6)]
    coronal = [header(40, z=0, orientation=(1, 0, 0, 0, 0, -1.0), series_uid="s3")]
    dose = [header(50, modality="SR"), header(51, samples=3), header(52, frames=40)]
    odd = [header(60, z=4.5, rows=16)]
    pictures = [header(70 + k, z=k, bits=8, series_uid="s4") for k in range(30)]
    series = (scout, lung, scan, coronal, dose, odd, pictures)
    choice = choose_series([each for one in series for each in one], "folder")
    assert choice.slices == scan
    notes = " / ".join(choice.notes)
    for part in (
        "localizer",
        "not axial",
        "modality SR",
        "colour",
        "multi-frame",
        "8-bit",
        "s2",
        "16 x 8",
    ):
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
    assert choice.reason.endswith("it is the latest of its series' acquisitions")
    assert any(f"{plain} slices of series s1#1," in note for note in choice.notes)
    for number, count in ((1, plain), (2, 1), (3, 100)):
        assert of(choose_series(files, "folder", f"s1#{number}")) == ({number}, count)
    assert of(choose_series(files, "folder", "s1")) == ({3}, 100)
    assert choose_series(files, "folder", "s1").name == "s1#3"
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


def test_a_later_acquisition_that_is_not_about_as_long_is_not_the_scan():
    """Though it is more than half as long."""
    files = mixed(scan(100), scan(70, 20.0, acquisition=2))
    assert of(choose_series(files, "folder")) == ({1}, 100)
    files = mixed(scan(100), scan(90, 5.0, acquisition=2))
    assert of(choose_series(files, "folder")) == ({2}, 90)


def test_an_acquisition_without_a_number_can_be_named():
    files = mixed(scan(30, acquisition=0), scan(30, acquisition=5))
    assert of(choose_series(files, "folder", "s1#0")) == ({0}, 30)
    assert of(choose_series(files, "folder")) == ({5}, 30)


DERIVED = ("DERIVED", "SECONDARY", "AXIAL")


def other(*words, unit="", count=10, series="s0", **changes):
    """Another series, with the lower UID, of slices that were computed."""
    image_type = (*DERIVED, *words)
    return [
        header(50 + k, z=k, series_uid=series, image_type=image_type, unit=unit, **changes)
        for k in range(count)
    ]


@pytest.mark.parametrize("words", [(), ("MIP",), ("MPR",), ("VNC",), ("AVERAGE",), ("VMI",)])
@pytest.mark.parametrize("count", [10, 14])
def test_the_original_goes_before_what_was_computed_from_it(words, count):
    scan = [header(k, z=k, contrast="X 350") for k in range(10)]
    computed = other(*words, count=count, contrast="X 350")
    choice = choose_series([*computed, *scan], "folder")
    assert choice.slices == scan
    assert choice.reason.endswith(("is original, not derived", "it shows the scan itself"))
    alone = choose_series(computed, "folder")
    assert alone.slices == computed and alone.reason == ""
    assert bool(alone.notes) == bool(words)


def test_a_projection_goes_before_no_scan_whatever_it_says_of_contrast():
    scan = [header(k, z=k) for k in range(10)]
    assert choose_series([*other("MIP", contrast="X 350"), *scan], "folder").slices == scan
    # The angiography itself may be there as monoenergetic images only, beside the plain scan.
    plain = [replace(each, contrast="NONE") for each in scan]
    mono = other("VMI", contrast="X 350")
    choice = choose_series([*mono, *plain], "folder")
    assert choice.slices == mono
    assert choice.notes[-1] == "the slices are virtual monoenergetic images"


@pytest.mark.parametrize("words", ["VMI", "AVERAGE", "MPR"])
def test_silence_on_contrast_makes_no_scan_lose_to_what_was_computed_from_it(words):
    scan = [header(k, z=k) for k in range(10)]
    choice = choose_series([*other(words, contrast="X 350"), *scan], "folder")
    assert choice.slices == scan and choice.reason.endswith("it is original, not derived")
    # Of originals the one that names an agent.
    enhanced = [replace(each, contrast="X 350", series_uid="s2") for each in scan]
    choice = choose_series([*scan, *enhanced], "folder")
    assert choice.slices == enhanced and choice.reason.endswith("it names a contrast agent")


def test_a_map_of_iodine_is_never_taken():
    scan = [header(k, z=k) for k in range(10)]
    for iodine in (other(unit="MGML", count=30), other("IODINE_MAP", count=30)):
        choice = choose_series([*iodine, *scan], "folder")
        assert choice.slices == scan and "left out 30 x " in choice.notes[0]
        with pytest.raises(DataError, match=r"no axial CT slice .*not in Hounsfield units"):
            choose_series(iodine, "folder")
        with pytest.raises(DataError, match="not in Hounsfield units"):
            choose_series(iodine, "folder", "s0")


def test_projections_under_the_scans_own_uid_are_not_mixed_in():
    scan = [header(100 + k, z=k) for k in range(10)]
    choice = choose_series([*other("MIP", series="s1"), *scan], "folder")
    assert choice.slices == scan
    assert "left out 10 slices of series s1, 8 x 8" in choice.notes


def test_no_contrast_said_is_less_than_nothing_said():
    said = [header(50 + k, z=k, series_uid="s0", contrast="NONE") for k in range(12)]
    scan = [header(k, z=k) for k in range(10)]
    choice = choose_series([*said, *scan], "folder")
    assert choice.slices == scan
    assert choice.reason.endswith("it does not say that it has no contrast agent")
    enhanced = [replace(each, contrast="C+", series_uid="s2") for each in scan]
    assert choose_series([*said, *scan, *enhanced], "folder").slices == enhanced


def test_a_tie_is_told_as_a_tie():
    first = [header(k, z=k) for k in range(10)]
    second = [header(50 + k, z=k, series_uid="s2") for k in range(10)]
    choice = choose_series([*second, *first], "folder")
    assert choice.slices == first and "most slices" not in choice.reason
    tie = "it is like series s2 in all that counts: the first by UID is taken"
    assert choice.reason.endswith(tie)


def test_a_reason_names_a_series_only_by_its_uid():
    """What stands behind the word is replaced where studies are pseudonymised."""
    passes = mixed(scan(50), scan(50, acquisition=2))
    second = [header(50 + k, z=k, series_uid="s2") for k in range(50)]
    reason = choose_series([*passes, *second], "folder").reason
    assert "the latest" in reason and "is like series s2" in reason
    assert set(re.findall(r"\bseries ([^\s,#]+)", reason)) == {"s1", "s2"}


@pytest.mark.parametrize("number", [1003, None])
def test_one_slice_without_a_place_hides_none_of_the_others(number):
    """Its number tells the place, or it is left out; the phases are told apart all the same."""
    plain, enhanced = scan(40), scan(40, acquisition=2)
    for slices in (plain, enhanced):
        number = number and slices[3].instance_number
        slices[3] = replace(slices[3], position=None, instance_number=number)
    choice = choose_series(mixed(plain, enhanced), "folder")
    assert of(choice) == ({2}, 40 if number else 39)
    note = "left out 1 slices without a position"
    assert (note in choice.notes) == (number is None)
    stack = stack_slices(choice.slices)
    assert stack.missing == (number is None) and stack.spacing_mm[2] == 1.0


def test_of_two_kernels_of_one_scan_the_softer_is_taken():
    def kernel(name, uid, **changes):
        return [
            header(k, z=k, series_uid=uid, kernel=name, **{"acquired": "101500.2", **changes})
            for k in range(10)
        ]

    lung, soft = kernel("B70f", "s0"), kernel("B31f", "s1", acquired="101501")
    choice = choose_series([*lung, *soft], "folder")
    assert choice.slices == soft
    told = "it is the same scan as series s0 with a softer kernel, B31f for B70f"
    assert choice.reason.endswith(told)
    # A scan at another time, of another acquisition or at other places is another scan.
    for changes in ({"acquired": "102000"}, {"acquisition": 2}, {"position": (0.0, 0.0, 4.0)}):
        others = kernel("B31f", "s1", **changes)
        assert choose_series(
            [*(replace(each, acquisition=1) for each in lung), *others], "folder"
        ).slices == [replace(each, acquisition=1) for each in lung], changes


def test_a_stretch_that_is_short_is_not_the_scan_however_many_slices_it_has():
    """Thick slices of the whole chest with contrast go before thin ones of some of it."""
    chest = [header(k, z=5 * k, contrast="X 350") for k in range(60)]
    thin = [header(100 + k, z=0.5 * k, series_uid="s0") for k in range(300)]
    assert choose_series([*thin, *chest], "folder").slices == chest


def test_contrast_makes_no_short_stretch_the_scan():
    chest = [header(k, z=5 * k) for k in range(60)]
    stretch = [header(100 + k, z=5 * k, series_uid="s0", contrast="X 350") for k in range(20)]
    assert choose_series([*stretch, *chest], "folder").slices == chest


@pytest.mark.parametrize("longer", [{"contrast": "NONE"}, {"contrast": "X 350"}, {}])
def test_a_scan_of_more_than_the_chest_does_not_exclude_the_angiography(longer):
    """Of chest and abdomen, or of the veins of the legs."""
    whole = [header(k, z=5 * k, **longer) for k in range(130)]
    angiography = [header(200 + k, z=k, series_uid="s2", contrast="X 350") for k in range(300)]
    assert choose_series([*whole, *angiography], "folder").slices == angiography
    tracking = angiography[:190]
    assert choose_series([*whole, *tracking], "folder").slices == whole


def test_orientations_that_differ_by_rounding_or_silence_are_one():
    tilted = (1.0, 0.0, 0.0, 0.0, 0.95, -0.312250)
    around = (1.0, 0.0, 0.0, 0.0, 0.950001, -0.312247)
    below = (1.0, 0.0, 0.0, 0.0, 0.949999, -0.312253)
    turns = [tilted, around, below, None]
    scan = [header(k, z=k, orientation=turns[k % 4]) for k in range(1, 13)]
    assert choose_series(scan, "folder").slices == scan
    other_tilt = [header(20 + k, z=k, orientation=(1, 0, 0, 0, 0.97, -0.2431)) for k in range(5)]
    choice = choose_series([*scan, *other_tilt], "folder")
    assert choice.slices == scan
    assert choice.notes == ["left out 5 slices of series s1, 8 x 8, in another orientation"]


def test_slices_without_a_series_or_an_acquisition_belong_to_the_only_one():
    scan = [header(k, z=k, series_uid="s1" if k % 3 else "", acquisition=k % 2) for k in range(12)]
    assert choose_series(scan, "folder").slices == scan


@pytest.mark.parametrize(("length", "step"), [(1, 1), (4, 3), (4, 2), (8, 7)])
def test_the_blocks_of_a_step_and_shoot_scan_are_one(length, step):
    """One slice to many per block, and neighbours that overlap by up to half."""
    blocks = [
        header(100 * block + k, z=step * block + k, acquisition=block + 1)
        for block in range(6)
        for k in range(length)
    ]
    choice = choose_series(blocks, "folder")
    assert len(choice.slices) == len({each.position for each in blocks}) and choice.reason == ""


def test_single_rotations_that_come_closer_are_one_scan():
    places = [0, 10, 20, 25, 30, 35]
    scan = [header(k, z=z, acquisition=k) for k, z in enumerate(places, 1)]
    assert choose_series(scan, "folder").slices == scan


def test_three_phases_a_little_apart_are_not_the_blocks_of_one_scan():
    phases = mixed(*(scan(50, 0.3 * n, acquisition=n) for n in (1, 2, 3)))
    assert of(choose_series(phases, "folder")) == ({3}, 50)
