"""What exam models learn from the labels of RSNA-STR PE."""

import math

import pytest

from pe_unified.ct.exam_labels import EXAM_LABELS, EXAM_TARGETS, EXAM_WEIGHTS, exam_targets

NAN = math.nan


def test_targets_are_the_positive_exam_and_the_labels_of_the_loss_in_its_order():
    assert EXAM_TARGETS[0] == "positive_exam_for_pe"
    assert EXAM_TARGETS[1:] == tuple(EXAM_WEIGHTS)
    assert set(EXAM_TARGETS[1:]) < set(EXAM_LABELS)


@pytest.mark.parametrize(
    ("negative", "indeterminate", "positive", "published"),
    [
        (1, 0, 0, 0),
        (0, 0, 1, 1),
        (0, 1, NAN, 1),
        (1, 1, NAN, 0),
        (1, None, 0, 0),
        (0, None, NAN, 1),
        (None, 0, NAN, NAN),
        (None, 1, NAN, NAN),
        (None, None, NAN, NAN),
    ],
)
def test_positive_is_what_is_neither_negative_nor_indeterminate(
    negative, indeterminate, positive, published
):
    labels = {"negative_exam_for_pe": negative, "indeterminate": indeterminate}
    assert exam_targets(labels)[0] == pytest.approx(positive, nan_ok=True)
    assert exam_targets(labels, "positive")[0] == pytest.approx(published, nan_ok=True)


def test_other_labels_stand_at_their_places_and_absent_ones_are_unknown():
    labels = {"negative_exam_for_pe": 0, "indeterminate": 0, "central_pe": 1, "leftsided_pe": None}
    found = exam_targets(labels)
    known = {name: value for name, value in zip(EXAM_TARGETS, found) if not math.isnan(value)}
    assert known == {
        "positive_exam_for_pe": 1,
        "negative_exam_for_pe": 0,
        "indeterminate": 0,
        "central_pe": 1,
    }
    assert len(found) == 10 and all(isinstance(value, float) for value in found)


def test_a_rule_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="'negative'"):
        exam_targets({}, "negative")
