"""Predictions keep the rules of RSNA-STR PE, at the least cost."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rsna_rules import label_faults

from pe_unified.ct.exam_labels import EXAM_LABELS, EXAM_WEIGHTS, IMAGE_WEIGHT
from pe_unified.evaluation.consistency import check, repair
from pe_unified.evaluation.exams import binary_cross_entropy

NAMES = tuple(EXAM_WEIGHTS)
UNIT = 1e-6
#: Near the cut as well as anywhere, with ties.
PROBABILITY = st.one_of(
    st.floats(0, 1),
    st.sampled_from([0.0, 0.3, 0.5, 0.5 + UNIT / 5, 0.5 + UNIT, 0.5 - UNIT / 5, 0.7, 1.0]),
)


def lists_of(length):
    return st.lists(PROBABILITY, min_size=length, max_size=length)


EXAM, SLICES = lists_of(9), st.lists(PROBABILITY, min_size=1, max_size=5)


def exam(**values):
    return np.array([values.get(name, 0.1) for name in NAMES])


NEGATIVE = exam(negative_exam_for_pe=0.9)
POSITIVE = exam(leftsided_pe=0.8, rv_lv_ratio_lt_1=0.7)


@pytest.mark.parametrize("any_slice", [False, True])
def test_the_rules_are_those_of_painted_exams(any_slice):
    for sides in product((0, 1), repeat=9):
        labels = {**dict.fromkeys(EXAM_LABELS, 0), **dict(zip(NAMES, sides))}
        faults = check(sides, [0.0, float(any_slice)])
        assert bool(faults) == bool(label_faults(labels, any_slice)), sides


@pytest.mark.parametrize(
    ("probability", "slices", "said"),
    [
        (NEGATIVE, [0.5, 0.1], []),
        (POSITIVE, [0.6, 0.1], []),
        (POSITIVE, [0.5], ["not exactly one of negative", "yet leftsided_pe, rv_lv_ratio_lt_1"]),
        (
            NEGATIVE,
            [0.51],
            [
                "the exam is negative",
                "not exactly one of rv_lv",
                "none of leftsided_pe, rightsided_pe",
            ],
        ),
        (exam(), [0.1], ["not exactly one of negative_exam_for_pe and indeterminate"]),
        (
            np.full(9, 0.6),
            [0.6],
            ["negative_exam_for_pe, ind", "not exactly one of rv_lv", "both of chr"],
        ),
    ],
)
def test_faults_are_told(probability, slices, said):
    faults = check(probability, slices)
    assert len(faults) == len(said)
    assert all(part in fault for part, fault in zip(said, faults)), faults


@given(EXAM, SLICES, st.integers(2, 7))
def test_what_is_repaired_keeps_the_rules_also_when_rounded(probability, slices, digits):
    repaired = repair(probability, slices, digits)
    assert check(*repaired) == []
    assert check(*(np.round(each, digits) for each in repaired)) == []
    written = [[float(f"{v:.{digits}f}") for v in np.round(each, digits)] for each in repaired]
    assert check(*written) == []


@given(EXAM, SLICES)
def test_a_second_repair_changes_nothing(probability, slices):
    once = repair(probability, slices)
    twice = repair(*once)
    for one, two in zip(once, twice):
        np.testing.assert_array_equal(one, two)


@given(st.sampled_from([NEGATIVE, POSITIVE]), lists_of(9), SLICES)
def test_what_keeps_the_rules_stays(template, drawn, slices):
    """Sides of an exam that keeps them, with values as drawn."""
    drawn, slices = np.array(drawn), np.array(slices)
    high = np.where(np.round(drawn, 6) > 0.5, drawn, 0.9)
    probability = np.where(template > 0.5, high, np.minimum(drawn, 0.5))
    slices = np.minimum(slices, 0.5)
    if template is POSITIVE:
        slices[0] = 0.8
    repaired = repair(probability, slices)
    np.testing.assert_array_equal(repaired[0], probability)
    np.testing.assert_array_equal(repaired[1], slices)


@cache
def allowed_sides(slices):
    """Every choice of sides that the rules allow: bool (choices, 9 + slices)."""
    choices = []
    for sides in product((False, True), repeat=9 + slices):
        labels = {**dict.fromkeys(EXAM_LABELS, 0), **dict(zip(NAMES, map(int, sides)))}
        if not label_faults(labels, any(sides[9:])):
            choices.append(sides)
    return np.array(choices)


def rise(before, after, slices):
    """Of the challenge's loss (times its denominator), if ``before`` is the truth."""
    weights = np.array([*EXAM_WEIGHTS.values(), *[IMAGE_WEIGHT * np.mean(slices)] * len(slices)])
    losses = binary_cross_entropy(before, after) - binary_cross_entropy(before, before)
    return losses @ weights


@settings(max_examples=60)
@given(EXAM, st.lists(PROBABILITY, min_size=1, max_size=3))
def test_no_other_choice_of_sides_is_cheaper(probability, slices):
    before = np.array([*probability, *slices])
    sides = allowed_sides(len(slices))
    moved = np.where(sides, np.maximum(before, 0.5 + UNIT), np.minimum(before, 0.5))
    cheapest = min(rise(before, each, slices) for each in moved)
    found = rise(before, np.concatenate(repair(probability, slices)), slices)
    assert found == pytest.approx(cheapest, abs=1e-9)


def test_least_changes_by_hand():
    """Low slices and a likely negative exam: the side and the ratio are taken back."""
    unsure = exam(negative_exam_for_pe=0.8, leftsided_pe=0.55, rv_lv_ratio_gte_1=0.52)
    repaired, slices = repair(unsure, [0.2, 0.3])
    expected = exam(negative_exam_for_pe=0.8, leftsided_pe=0.5, rv_lv_ratio_gte_1=0.5)
    np.testing.assert_array_equal(repaired, expected)
    assert slices.tolist() == [0.2, 0.3]
    # Sure of a side and of the ratio: one slice is raised, the likeliest.
    sure = exam(negative_exam_for_pe=0.3, rightsided_pe=0.9, rv_lv_ratio_lt_1=0.9)
    repaired, slices = repair(sure, [0.2, 0.45, 0.3])
    np.testing.assert_array_equal(repaired, sure)
    assert slices.tolist() == [0.2, 0.500001, 0.3]
    # Nothing but an unreadable exam: the indeterminate version.
    repaired, slices = repair(exam(indeterminate=0.45, negative_exam_for_pe=0.1), [0.1])
    assert repaired.tolist() == exam(indeterminate=0.500001).tolist()


@pytest.mark.parametrize(
    ("places", "raised"),
    [
        (dict(leftsided_pe=0.4, rightsided_pe=0.4, central_pe=0.4), "leftsided_pe"),
        (dict(rightsided_pe=0.4, leftsided_pe=0.3), "rightsided_pe"),
        (dict(central_pe=0.49, leftsided_pe=0.3), "central_pe"),
        (dict(central_pe=0.4, rightsided_pe=0.39), "rightsided_pe"),
    ],
)
def test_of_equal_sides_it_is_left_and_a_lighter_one_moves_before_a_heavy_one(places, raised):
    repaired, _ = repair(exam(rv_lv_ratio_lt_1=0.9, **places), [0.9])
    on = [name for name, value in zip(NAMES, repaired) if value > 0.5]
    assert on == [raised, "rv_lv_ratio_lt_1"]
    assert repaired[NAMES.index(raised)] == 0.500001


def test_of_other_ties_the_first_is_taken():
    even = exam(
        leftsided_pe=0.9,
        chronic_pe=0.7,
        acute_and_chronic_pe=0.7,
        negative_exam_for_pe=0.2,
        rv_lv_ratio_lt_1=0.8,
    )
    repaired, _ = repair(even, [0.9])
    assert repaired[NAMES.index("chronic_pe")] == 0.7
    assert repaired[NAMES.index("acute_and_chronic_pe")] == 0.5
    slices = repair(POSITIVE, [0.4, 0.4])[1]
    assert slices.tolist() == [0.500001, 0.4]


def test_a_value_that_rounding_would_move_is_raised():
    near = exam(leftsided_pe=0.5 + UNIT / 5, rv_lv_ratio_lt_1=0.8)
    assert check(near, [0.9]) == []
    assert repair(near, [0.9])[0][NAMES.index("leftsided_pe")] == 0.500001
    assert repair(near, [0.9], digits=8)[0].tolist() == near.tolist()


@pytest.mark.parametrize(
    ("probability", "slices", "message"),
    [
        ([0.5] * 10, [0.5], "9 probabilities"),
        ([0.5] * 9, [], "one per slice"),
        ([0.5] * 9, [float("nan")], "between 0 and 1"),
        ([1.5] + [0.5] * 8, [0.5], "between 0 and 1"),
    ],
)
def test_what_is_no_prediction_is_refused(probability, slices, message):
    for function in (check, repair):
        with pytest.raises(ValueError, match=message):
            function(probability, slices)
