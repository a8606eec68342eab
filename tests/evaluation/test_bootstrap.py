import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.evaluation.bootstrap import (
    estimate,
    mean_statistic,
    paired_difference,
    patient_weights,
    percentile_interval,
    ratio,
)


def mean_of(values):
    """The mean over patients of one number each."""
    values = np.asarray(values, dtype=float)
    return lambda weights: {"mean": (weights @ values) / weights.sum(axis=1)}


def test_every_resample_draws_as_many_patients_as_there_are():
    weights = patient_weights(7, 500, seed=3)
    assert weights.shape == (500, 7)
    assert (weights.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(weights, patient_weights(7, 500, seed=3))
    assert (weights != patient_weights(7, 500, seed=4)).any()
    # Each patient is left out with probability (1 - 1/7)^7.
    assert (weights == 0).mean() == pytest.approx((6 / 7) ** 7, abs=0.03)


def test_interval_of_a_mean_agrees_with_its_standard_error():
    generator = np.random.default_rng(0)
    values = generator.normal(5.0, 2.0, 400)
    found = estimate(mean_of(values), 400, resamples=4000, seed=1)["mean"]
    error = 1.96 * values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - error, abs=0.02)
    assert found.high == pytest.approx(values.mean() + error, abs=0.02)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    covered = 0
    for seed in range(200):
        found = estimate(mean_of(generator.normal(size=60)), 60, 400, seed, level=0.9)["mean"]
        covered += found.low <= 0 <= found.high
    assert 0.82 <= covered / 200 <= 0.96


@settings(max_examples=40)
@given(st.lists(st.floats(-100, 100), min_size=6, max_size=30), st.integers(0, 1000))
def test_interval_contains_the_point_and_grows_with_its_level(values, seed):
    narrow = estimate(mean_of(values), len(values), 300, seed, level=0.8)["mean"]
    wide = estimate(mean_of(values), len(values), 300, seed, level=0.95)["mean"]
    assert wide.low - 1e-9 <= narrow.low <= narrow.high <= wide.high + 1e-9
    assert wide.low - 1e-9 <= wide.value <= wide.high + 1e-9


def test_one_patient_has_no_interval():
    found = estimate(mean_of([3.0]), 1)["mean"]
    assert found.value == 3.0 and np.isnan([found.low, found.high]).all()


def test_interval_needs_half_of_the_resamples():
    values = np.full(100, np.nan)
    values[:49] = 1.0
    assert np.isnan(percentile_interval(values)).all()
    values[:50] = 1.0
    assert percentile_interval(values) == (1.0, 1.0)


def test_ratio_has_no_warning_and_no_number_over_zero():
    with np.errstate(all="raise"):
        result = ratio(np.array([1.0, 0.0, 3.0]), np.array([2.0, 0.0, 0.0]))
    np.testing.assert_array_equal(result, [0.5, np.nan, np.nan])


def test_pairing_cancels_what_patients_share():
    generator = np.random.default_rng(2)
    difficulty = generator.normal(0, 10, 50)
    gain = generator.normal(1.0, 0.5, 50)
    found = paired_difference(mean_of(difficulty), mean_of(difficulty + gain), 50)["mean"]
    assert found.value == pytest.approx(gain.mean())
    assert 0.8 < found.low < found.value < found.high < 1.2
    assert found.p_value < 0.01
    back = paired_difference(mean_of(difficulty + gain), mean_of(difficulty), 50)["mean"]
    assert (back.value, back.low, back.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )


def test_an_arm_against_itself_shows_no_difference():
    found = paired_difference(mean_of([1, 2, 5]), mean_of([1, 2, 5]), 3)["mean"]
    assert (found.value, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_p_value_is_spread_evenly_where_nothing_differs():
    generator = np.random.default_rng(11)
    p_values = [
        paired_difference(
            mean_of(generator.normal(size=50)), mean_of(generator.normal(size=50)), 50, 300, seed
        )["mean"].p_value
        for seed in range(150)
    ]
    assert 0.02 < np.mean(np.array(p_values) < 0.1) < 0.2


def test_several_runs_are_averaged_on_the_same_patients():
    arm = mean_statistic([mean_of([1, 2, 3]), mean_of([3, 4, 5])])
    weights = patient_weights(3, 20, 0)
    np.testing.assert_allclose(arm(weights)["mean"], mean_of([2, 3, 4])(weights)["mean"])


@pytest.mark.parametrize("call", [lambda: patient_weights(0, 5, 0), lambda: mean_statistic([])])
def test_nothing_to_resample_is_an_error(call):
    with pytest.raises(ValueError):
        call()


def test_comparison_needs_patients_and_resamples():
    with pytest.raises(ValueError, match="two patients"):
        paired_difference(mean_of([1]), mean_of([1]), 1)
    with pytest.raises(ValueError, match="resamples"):
        paired_difference(mean_of([1, 2]), mean_of([1, 2]), 2, resamples=0)
