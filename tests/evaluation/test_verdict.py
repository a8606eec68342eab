"""No combination of slices, lesions and thresholds gives a verdict that contradicts itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.evaluation.verdict import (
    ExamThresholds,
    Verdict,
    can_be_clot,
    can_hold_clot,
    choose_exam_thresholds,
    judge,
    score_text,
    threshold_as_written,
)

SHARE = st.floats(0, 1)
THRESHOLD = st.none() | st.floats(1e-4, 1)
LESIONS = st.lists(st.tuples(SHARE, st.booleans()), max_size=6)


@given(
    st.lists(SHARE, max_size=30),
    st.floats(0.3, 9),
    st.none() | LESIONS,
    st.builds(ExamThresholds, THRESHOLD, THRESHOLD),
)
def test_exam_stretches_and_lesions_never_contradict(probability, step, lesions, thresholds):
    verdict = judge(probability, step, lesions, thresholds)
    anything = bool(verdict.stretches) or any(verdict.lesions)
    if verdict.positive is None:
        assert not anything
    else:
        assert verdict.positive == anything
        assert None not in verdict.lesions
    for (score, can_be), called in zip(lesions or (), verdict.lesions, strict=True):
        if called:
            assert can_be and round(score, 4) >= thresholds.lesion
    # As anybody finds who compares what is written down.
    if verdict.stretch_score is not None and thresholds.stretch is not None:
        assert bool(verdict.stretches) == (verdict.stretch_score >= thresholds.stretch)
    if verdict.lesion_score is not None and thresholds.lesion is not None:
        assert any(verdict.lesions) == (verdict.lesion_score >= thresholds.lesion)
    for first, last in verdict.stretches:
        assert 0 <= first <= last < len(probability)


def test_a_negative_exam_holds_candidates_only():
    """The scores of a real report: 0.67 under a threshold of 0.76, lesions of 0.9 and more."""
    lesions = [(0.98, True), (0.95, False), (0.9, True)]
    verdict = judge([0.67] * 9, 1.5, lesions, ExamThresholds(0.76, 0.99))
    assert verdict.positive is False and verdict.lesions == (False, False, False)
    verdict = judge([0.67] * 9, 1.5, lesions, ExamThresholds(0.76, 0.92))
    assert verdict.positive is True and verdict.lesions == (True, False, False)
    assert verdict.stretches == ()


def test_a_lesion_at_the_threshold_is_called():
    verdict = judge([], 1.5, [(0.92, True), (0.9199, True)], ExamThresholds(None, 0.92))
    assert verdict.positive is True and verdict.lesions == (True, False)


def test_a_positive_exam_without_lesions_names_its_slices():
    verdict = judge([0.1, 0.9, 0.9, 0.2, 0.1, 0.9], 3.0, [], ExamThresholds(0.52, 0.5))
    assert verdict.positive is True and verdict.stretches == ((1, 3),)
    assert (verdict.stretch_score, verdict.lesion_score) == (0.9, 0.0)


@pytest.mark.parametrize(
    ("mean_hu", "possible"),
    [(33, True), (87, True), (-242, False), (-60, False), (300, False)],
)
def test_a_clot_is_neither_air_nor_fat_nor_contrast(mean_hu, possible):
    assert can_be_clot(mean_hu) == possible


@pytest.mark.parametrize(("pixels", "possible"), [(4, False), (5, True)])
def test_boxes_have_room_for_a_clot_or_not(pixels, possible):
    hu = np.full((10, 10), -700.0)
    hu[5:] = 300
    hu.flat[:pixels] = np.linspace(-50, 150, pixels)
    assert can_hold_clot(hu) == possible


def test_without_thresholds_nothing_is_called():
    verdict = judge([0.9] * 5, 3.0, [(0.9, True), (0.9, False)], ExamThresholds())
    assert verdict.positive is None and verdict.lesions == (None, False)


def scores(stretch, lesion):
    return Verdict(None, stretch, lesion, (), ())


def youden(thresholds, labels, verdicts):
    def reached(score, threshold):
        return score is not None and threshold is not None and score >= threshold

    called = np.array(
        [
            reached(each.stretch_score, thresholds.stretch)
            or reached(each.lesion_score, thresholds.lesion)
            for each in verdicts
        ]
    )
    labels = np.array(labels)
    return called[labels].mean() - called[~labels].mean()


def test_thresholds_are_chosen_together():
    """Neither kind parts these exams alone."""
    labels = [True, True, False, False]
    verdicts = [scores(0.9, 0.0), scores(0.2, 0.8), scores(0.3, 0.4), scores(0.1, 0.6)]
    chosen = choose_exam_thresholds(labels, verdicts)
    assert chosen == ExamThresholds(pytest.approx(0.6), pytest.approx(0.7))
    assert youden(chosen, labels, verdicts) == 1


@given(st.integers(0, 10_000), st.integers(0, 1_000_000))
def test_a_threshold_as_written_calls_the_same_scores(score, threshold):
    score, threshold = score / 10_000, threshold / 1_000_000
    written = threshold_as_written(threshold)
    assert (score >= written) == (score >= threshold)
    # And readers find the same in what is printed.
    assert (score_text(score) >= score_text(written)) == (score >= threshold)


def test_a_chosen_threshold_has_the_digits_of_a_score():
    verdicts = [scores(0.7601, None), scores(0.76, None)]
    assert choose_exam_thresholds([True, False], verdicts) == ExamThresholds(0.7601, None)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.integers(0, 10).map(lambda n: n / 10),
            st.integers(0, 10).map(lambda n: n / 10),
        ),
        min_size=2,
        max_size=12,
    ),
    st.sampled_from([(True, True), (True, False), (False, True)]),
)
def test_no_pair_of_thresholds_is_better(exams, kinds):
    labels = [label for label, _, _ in exams]
    verdicts = [scores(a if kinds[0] else None, b if kinds[1] else None) for _, a, b in exams]
    chosen = choose_exam_thresholds(labels, verdicts)
    if len(set(labels)) < 2:
        assert chosen is None
        return
    grid = [None, *(np.arange(10) / 10 + 0.05)]
    every = max(youden(ExamThresholds(a, b), labels, verdicts) for a in grid for b in grid)
    assert (0 if chosen is None else youden(chosen, labels, verdicts)) == pytest.approx(every)
    if chosen is not None:
        assert (kinds[0] or chosen.stretch is None) and (kinds[1] or chosen.lesion is None)


def test_exams_of_one_class_choose_nothing():
    assert choose_exam_thresholds([True, True], [scores(0.9, 0.1)] * 2) is None
    assert choose_exam_thresholds([], []) is None
