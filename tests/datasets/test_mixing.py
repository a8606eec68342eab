"""Pasting and joining: what changes and what stays, in slices with round vessels."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vessel_set import SIDE, SLICES, write_vessel_set

from pe_unified.datasets import Draw, JoinSlices, PasteEmboli, PESliceDataset
from pe_unified.datasets.lumen import among_lungs, distance_to, lumen_mask, narrow_parts, places_for

LOAD = (dict(type="LoadCTSlice"), dict(type="LoadPELabels"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_vessel_set(tmp_path_factory.mktemp("vessels"))


def dataset(data, *steps, **options):
    return PESliceDataset("annotations/train.json", str(data), [*LOAD, *steps], **options)


@pytest.fixture(scope="module")
def plain(data):
    return dataset(data)


@pytest.fixture(scope="module")
def pasting(data):
    return dataset(data, dict(type="PasteEmboli", probability=1.0, most=3))


slices, seeds = st.integers(1, SLICES - 1), st.integers(0, 2**40)


@settings(max_examples=40)
@given(index=slices, seed=seeds)
def test_pasted_emboli_lie_in_vessels_and_are_all_that_changes(plain, pasting, index, seed):
    before, after = plain[Draw(index, seed)], pasting[Draw(index, seed)]
    old, new = before["instance_map"], after["instance_map"]
    pasted = (new > 0) & (old == 0)
    np.testing.assert_array_equal(new[~pasted], old[~pasted])
    lumen = lumen_mask(before["hu"], 150, 600, 60)
    assert not (pasted & ~lumen).any()
    changed = (before["hu"] != after["hu"]).any(axis=-1)
    zone = cv2.dilate(pasted.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert not (changed & ~(zone & lumen)).any()
    for number in np.unique(new)[1:]:
        near = cv2.dilate((new == number).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert set(np.unique(new[near])) <= {0, number}, "emboli touch"
    assert pasted.any(), "there is room in three vessels"
    assert after["label"] == 1
    for number, (x1, y1, x2, y2) in zip(np.unique(new)[1:], after["boxes"], strict=True):
        rows, cols = np.nonzero(new == number)
        found = cols.min(), rows.min(), cols.max() + 1, rows.max() + 1
        assert found == (x1, y1, x2, y2)


def test_a_pasted_embolus_is_as_dark_to_its_blood_as_it_was(plain, pasting):
    """Between blood with and without contrast medium: 50 HU of 40 to 270 is 0.957 of the way."""
    index = 10  # blood of 450 HU
    told = []
    for seed in range(20):
        before, after = plain[Draw(index, seed)], pasting[Draw(index, seed)]
        pasted = (after["instance_map"] > 0) & (before["instance_map"] == 0)
        core = pasted & (distance_to(~pasted) > 1.5)
        told += after["hu"][core, 0].tolist()
    # Donors have 270 to 470 HU, so that 50 becomes 40 + 10 * (450 - 40) / (270 - 40) or less.
    assert 48 < np.mean(told) < 60
    assert np.std(told) < 15


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        (dict(widest=3.0, hilum_mm=30.0), False),  # too wide a vessel for an embolus of 3
        (dict(widest=9.0, hilum_mm=10.0), False),  # 28 mm wide: no vessel of the lungs
        (dict(widest=9.0, hilum_mm=30.0), True),
    ],
)
def test_neither_the_heart_nor_vessels_that_are_too_wide_take_emboli(data, options, taken):
    """The region in question is 20 pixels in radius, at (30, 30)."""
    pasting = dataset(data, dict(type="PasteEmboli", probability=1.0, **options))
    found = 0
    for seed in range(30):
        new = pasting[Draw(2, seed)]["instance_map"] > 0
        assert new.any()
        found += new[30 - 14 : 30 + 14, 30 - 14 : 30 + 14].sum()
    assert bool(found) is taken


def test_a_draw_gives_the_same_wherever_it_is_made(data, pasting):
    again = dataset(data, dict(type="PasteEmboli", probability=1.0, most=3))
    draw = Draw(4, 77)
    again[Draw(5, 1)]
    for field in ("hu", "instance_map", "boxes"):
        np.testing.assert_array_equal(pasting[draw][field], again[draw][field])
    other = pasting[Draw(4, 78)]["instance_map"]
    assert not np.array_equal(pasting[draw]["instance_map"], other)


def test_what_comes_after_is_the_same_with_and_without(data):
    """So that a page may show before and after, and the geometry tells nothing of labels."""
    after = dict(type="RandomSliceGeometry")
    one = dataset(data, dict(type="PasteEmboli", probability=0.0), after)[Draw(3, 5)]
    other = dataset(data, after)[Draw(3, 5)]
    np.testing.assert_array_equal(one["hu"], other["hu"])


def test_slices_whose_masks_are_unknown_are_left_alone(plain, pasting):
    before, after = plain[Draw(0, 1)], pasting[Draw(0, 1)]
    np.testing.assert_array_equal(before["hu"], after["hu"])
    assert after["instance_map"] is None and after["label"] == 0 and after["boxes"] is None


def test_a_set_without_emboli_gives_none(data):
    negative = dataset(data, dict(type="PasteEmboli", probability=1.0), indices=1)
    assert negative[Draw(0, 1)]["instance_map"] is None


def test_neighbours_get_it_where_the_vessel_is_in_all_of_them(data):
    stack = dataset(data, dict(type="PasteEmboli", probability=1.0), neighbours=1)
    before = dataset(data, neighbours=1)
    for seed in range(5):
        one, other = before[Draw(6, seed)], stack[Draw(6, seed)]
        pasted = (other["instance_map"] > 0) & (one["instance_map"] == 0)
        assert pasted.any()
        assert (one["hu"][pasted] > 150).all(), "blood in all three slices"
        assert (other["hu"][pasted] < 300).mean() > 0.3, "the donor's neighbours hold no embolus"


@pytest.mark.parametrize("options", [dict(probability=2.0), dict(most=0), dict(widest=0.5)])
def test_pasting_refuses_what_it_cannot_do(options):
    with pytest.raises(ValueError, match="PasteEmboli"):
        PasteEmboli(**options)


def test_lumens_are_bright_even_and_have_a_width():
    hu = np.full((40, 80, 1), -800, np.int16)
    hu[5:20, 5:20] = 300  # a vessel
    hu[5:20, 30:45] = 300
    hu[5:20:2, 30:45] = 500  # uneven as bone
    hu[5:20, 50:65] = 900  # bone
    hu[30, 5:60] = 350  # a line
    found = lumen_mask(hu, 150, 600, 60)
    assert found[6:19, 6:19].all()
    found[5:20, 5:20] = False
    assert not found.any()


def test_what_lies_among_the_lungs_is_no_wider_than_the_closing():
    hu = np.full((80, 80, 3), -850, np.int16)
    hu[:, :30] = 50  # the chest's middle
    hu[20:30, 40:60] = 50  # a vessel in the lung, 10 wide
    hu[50:70, 40:80] = 50  # 20 wide
    found = among_lungs(hu, 6)
    assert found[20:30, 40:60].all() and not found[:, :24].any() and not found[56:64, 50:].any()
    assert not among_lungs(np.full((9, 9, 1), 50, np.int16), 3).any()


def test_wide_parts_are_left_out_and_narrow_ones_kept():
    mask = np.zeros((60, 60), bool)
    mask[5:35, 5:35] = True
    mask[18:23, 35:55] = True
    narrow = narrow_parts(mask, 5)
    assert narrow[18:23, 42:55].all() and not narrow[8:32, 8:32].any()
    assert narrow_parts(mask, 50) is mask


def test_places_are_all_those_where_the_shape_fits():
    rng = np.random.default_rng(1)
    room, shape = rng.random((20, 18)) < 0.8, rng.random((3, 4)) < 0.5
    by_hand = [
        [row, col]
        for row in range(18)
        for col in range(15)
        if room[row : row + 3, col : col + 4][shape].all()
    ]
    assert places_for(shape, room).tolist() == by_hand and by_hand
    assert len(places_for(np.ones((30, 2), bool), room)) == 0


JOIN = dict(type="JoinSlices", probability=1.0, below=1.0)


@settings(max_examples=25)
@given(index=st.sampled_from(range(1, SLICES, 2)), seed=seeds)
def test_a_joined_sample_holds_exactly_the_pixels_of_its_parts(data, index, seed):
    joining = dataset(data, JOIN)
    loading, join = joining.pipeline.transforms[:2], joining.pipeline.transforms[2]
    results = joining._processed(Draw(index, seed), loading)
    others = join.draw_others(results, joining.with_emboli)
    parts = [results, *(joining._processed(each, loading) for each in others)]
    joined = joining[Draw(index, seed)]
    half = SIDE // 2
    used = []
    for top in (0, half):
        for left in (0, half):
            cell = np.s_[top : top + half, left : left + half]
            used += [
                number
                for number, part in enumerate(parts)
                if part["hu"].shape == joined["hu"].shape and _holds(part, joined, cell)
            ]
    assert set(used) == set(range(4)) or len({part["img_path"] for part in parts}) < 4
    assert joined["label"] == 1 and joined["spacing_mm"] is None
    assert len(joined["boxes"]) == len(np.unique(joined["instance_map"])) - 1 >= 4


def _holds(part, joined, cell) -> bool:
    """Whether a cell is a window of a part, HU and masks alike."""
    hu = joined["hu"][cell][..., 0].astype(np.float32)
    match = cv2.matchTemplate(part["hu"][..., 0].astype(np.float32), hu, cv2.TM_SQDIFF)
    row, col = np.unravel_index(match.argmin(), match.shape)
    seen = np.s_[row : row + hu.shape[0], col : col + hu.shape[1]]
    same = np.array_equal(part["hu"][seen][..., 0], joined["hu"][cell][..., 0])
    marked = np.array_equal(part["instance_map"][seen] > 0, joined["instance_map"][cell] > 0)
    return same and marked


def test_only_slices_with_few_pixels_of_emboli_are_joined(data, plain):
    share = plain.target_ratios()[1]
    for below, joins in ((share * 1.01, True), (share * 0.99, False)):
        joining = dataset(data, {**JOIN, "below": below})
        same = np.array_equal(joining[Draw(1, 3)]["hu"], plain[Draw(1, 3)]["hu"])
        assert same is not joins
    joining = dataset(data, JOIN)
    for index in (0, 2):  # unknown, and without
        np.testing.assert_array_equal(joining[Draw(index, 3)]["hu"], plain[Draw(index, 3)]["hu"])


def test_joining_gives_more_pixels_of_emboli(data, plain):
    joining = dataset(data, JOIN)
    before = (plain[Draw(1, 3)]["instance_map"] > 0).mean()
    after = (joining[Draw(1, 3)]["instance_map"] > 0).mean()
    assert after > 3 * before


def test_others_of_a_joined_sample_may_have_been_pasted_into(data):
    join = {**JOIN, "grid": (1, 2)}
    both = dataset(data, dict(type="PasteEmboli", probability=1.0), join)
    only = dataset(data, join)
    counts = [sum(len(each[Draw(1, seed)]["boxes"]) for seed in range(6)) for each in (both, only)]
    assert counts[0] > counts[1]


@pytest.mark.parametrize("options", [dict(probability=-1.0), dict(grid=(1, 1)), dict(grid=(0, 2))])
def test_joining_refuses_what_it_cannot_do(options):
    with pytest.raises(ValueError, match="JoinSlices"):
        JoinSlices(**options)


def test_target_ratios_are_shares_of_pixels(plain):
    ratios = plain.target_ratios()
    assert np.isnan(ratios[0]) and ratios[2] == 0
    mask = plain[Draw(1, 0)]["instance_map"] > 0
    assert ratios[1] == pytest.approx(mask.mean())
    assert plain.with_emboli.tolist() == list(range(1, SLICES, 2))
