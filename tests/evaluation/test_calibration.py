import json
import math

import numpy as np
import pytest
from calibration_error import expected_calibration_error
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss
from weights import drawn_weights

from pe_unified.evaluation.calibration import (
    Calibration,
    calibration_statistic,
    equal_count_bins,
    fit_calibration,
    ppv_npv,
    reliability_curve,
)


def overconfident_exams(seed: int, exams: int = 300, slope: float = 0.5, intercept: float = -0.7):
    """Labels, and probabilities that say more than they know: the truth is a flatter line."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 2.5, exams)
    label = generator.random(exams) < expit(slope * scores + intercept)
    return label, expit(scores)


@pytest.mark.parametrize("bins", [5, 10])
def test_curve_equals_that_of_scikit_learn(bins):
    label, probability = overconfident_exams(0)
    share, mean = calibration_curve(label, probability, n_bins=bins, strategy="quantile")
    curve = reliability_curve(label, probability, bins)
    np.testing.assert_allclose(curve.share, share)
    np.testing.assert_allclose(curve.probability, mean)
    assert curve.count.tolist() == [300 // bins] * bins


def test_equal_probabilities_share_a_bin():
    probability = np.array([0.1] * 7 + [0.2, 0.3, 0.9])
    curve = reliability_curve([0] * 9 + [1], probability, 10)
    assert curve.count[0] == 7 and curve.count.sum() == 10
    assert len(set(equal_count_bins(np.full(5, 0.3)))) == 1


def test_calibration_error_by_hand():
    """Two bins: means 0.2 and 0.7, shares 1/2 and 1/2, so (2 * 0.3 + 2 * 0.2) / 4."""
    label, probability = [0, 1, 0, 1], [0.1, 0.3, 0.6, 0.8]
    assert expected_calibration_error(label, probability, 2) == pytest.approx(0.25)


def test_statistic_equals_the_single_numbers_and_repeated_exams():
    label, probability = overconfident_exams(1, 60)
    patient = np.arange(60) % 20
    statistic = calibration_statistic(label, probability, patient, 20)
    alone = statistic(np.ones((1, 20)))
    assert alone["ece"][0] == pytest.approx(expected_calibration_error(label, probability))
    assert alone["brier"][0] == pytest.approx(brier_score_loss(label, probability))
    bin_of = equal_count_bins(probability)
    weights = drawn_weights(20, 4, 0)
    weighted = statistic(weights)
    for row, weight in enumerate(weights.astype(int)):
        again = np.repeat(np.arange(60), weight[patient])
        assert weighted["brier"][row] == pytest.approx(
            brier_score_loss(label[again], probability[again])
        )
        gaps = [
            abs((probability[again] - label[again])[bin_of[again] == number].sum())
            for number in range(10)
        ]
        assert weighted["ece"][row] == pytest.approx(sum(gaps) / len(again))


def test_without_a_case_nothing_is_defined():
    values = calibration_statistic([], [], np.zeros(0, int), 3)(np.ones((2, 3)))
    assert all(np.isnan(value).all() for value in values.values())


@pytest.mark.parametrize("seed", range(3))
def test_fits_equal_logistic_regression_without_penalty(seed):
    label, probability = overconfident_exams(seed)
    scores = logit(probability)[:, None]
    reference = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1000).fit(scores, label)
    platt = fit_calibration(label, probability)
    assert platt.slope == pytest.approx(reference.coef_[0, 0], rel=1e-4)
    assert platt.intercept == pytest.approx(reference.intercept_[0], rel=1e-4)
    expected = reference.predict_proba(scores)[:, 1]
    np.testing.assert_allclose(platt.apply(probability), expected, atol=1e-5)
    assert not platt.kept


def test_a_fit_recovers_the_line_and_calibrates_other_exams():
    fitted = fit_calibration(*overconfident_exams(0, 20_000))
    assert fitted.slope == pytest.approx(0.5, abs=0.03)
    assert fitted.intercept == pytest.approx(-0.7, abs=0.05)
    label, probability = overconfident_exams(1, 5000)
    before, after = (
        expected_calibration_error(label, values)
        for values in (probability, fitted.apply(probability))
    )
    assert after < 0.03 < 0.1 < before


def test_certain_probabilities_leave_a_fit_finite():
    label, probability = overconfident_exams(4, 200)
    probability[:4], label[:4] = [0, 0, 1, 1], [0, 1, 0, 1]
    fitted = fit_calibration(label, probability)
    assert 0 < fitted.slope < 1 and not fitted.kept
    assert fitted.apply([0.0, 1.0]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("label", "probability", "reason"),
    [
        ([1, 1, 1], [0.2, 0.5, 0.9], "one class"),
        ([], [], "one class"),
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "perfectly separated"),
        ([0, 0, 1, 1], [0.1, 0.2, 0.2, 0.9], "perfectly separated"),
        ([0, 0, 1, 1], [0.3, 0.3, 0.3, 0.3], "all equal"),
        ([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9], "do not have higher"),
        ([1, 0, 1, 0, 0], [0.1, 0.8, 0.3, 0.25, 0.9], "do not have higher"),
    ],
)
def test_where_no_line_is_best_probabilities_are_left_as_they_are(label, probability, reason):
    found = fit_calibration(label, probability)
    assert reason in found.kept
    assert (found.slope, found.intercept) == (1, 0)
    np.testing.assert_array_equal(found.apply(probability), probability)


@given(st.integers(0, 10_000))
def test_no_line_nearby_is_more_likely(seed):
    label, probability = overconfident_exams(seed, 40)
    found = fit_calibration(label, probability)
    if found.kept:
        return

    def likelihood(slope, intercept):
        margin = slope * logit(probability) + intercept
        return -np.logaddexp(0, np.where(label, -margin, margin)).sum()

    best = likelihood(found.slope, found.intercept)
    for step in (0.01, -0.01):
        assert best >= likelihood(found.slope + step, found.intercept) - 1e-9
        assert best >= likelihood(found.slope, found.intercept + step) - 1e-9


@given(st.floats(0.05, 20), st.floats(-5, 5), st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_ranks_stay_and_so_do_unknown_values(slope, intercept, values):
    calibrated = Calibration(slope, intercept).apply([*sorted(values), math.nan])
    assert (np.diff(calibrated[:-1]) >= 0).all() and np.isnan(calibrated[-1])
    assert ((calibrated[:-1] >= 0) & (calibrated[:-1] <= 1)).all()


def test_travels_as_plain_floats():
    fitted = fit_calibration(*overconfident_exams(0))
    written = json.dumps({f"exam/{key}": value for key, value in fitted.as_floats().items()})
    assert Calibration.of(json.loads(written)) == fitted
    assert Calibration.of({"exam/threshold": 0.4}).kept == "none was fitted on validation"


@pytest.mark.parametrize("wrong", [(0.0, 0.0), (-1.0, 0.0), (math.inf, 0.0), (1.0, math.nan)])
def test_a_line_that_reverses_ranks_is_refused(wrong):
    with pytest.raises(ValueError, match="slope above 0"):
        Calibration(*wrong)


@pytest.mark.parametrize(
    ("label", "probability", "message"),
    [([0, 1], [0.5], "one probability"), ([0, 1], [0.5, math.nan], "NaN"), ([1], [1.2], "between")],
)
def test_wrong_input_is_refused(label, probability, message):
    for measure in (reliability_curve, fit_calibration):
        with pytest.raises(ValueError, match=message):
            measure(label, probability)


def test_predictive_values_by_counting():
    """Of 1000 exams 150 are positive: 135 found, 15 missed; 680 of 850 spared, 170 called."""
    ppv, npv = ppv_npv(0.9, 0.8, 0.15)
    assert ppv == pytest.approx(135 / 305)
    assert npv == pytest.approx(680 / 695)
    assert ppv_npv(1, 1, 0)[1] == 1 and math.isnan(ppv_npv(1, 1, 0)[0])
    assert ppv_npv(1, 0, 1)[0] == 1 and math.isnan(ppv_npv(1, 0, 0.5)[1])
    assert all(map(math.isnan, ppv_npv(0.9, math.nan, 0.1)))  # no negative exam in the split
    with pytest.raises(ValueError, match=r"got 1\.2"):
        ppv_npv(0.9, 1.2, 0.1)
