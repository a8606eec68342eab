import numpy as np
import pytest
from scipy import stats

from pe_unified.evaluation import bootstrap, intervals
from pe_unified.evaluation.intervals import ratio


def mean_of(values):
    return lambda weights: {"mean": ratio(weights @ values, weights.sum(axis=1))}


VALUES = np.random.default_rng(1).normal(size=40)


def test_ends_are_those_of_scipy():
    found = bootstrap.estimate(mean_of(VALUES), 40, 4000)["mean"]
    theirs = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert found.value == pytest.approx(VALUES.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_a_group_is_drawn_as_a_whole():
    groups = np.repeat(np.arange(10), 4)
    weights = bootstrap.drawn_weights(groups, 50)
    assert weights.shape == (50, 40) and (weights.sum(axis=1) == 40).all()
    assert (weights.reshape(50, 10, 4) == weights[:, ::4, None]).all()
    alike = np.repeat(VALUES[:10], 4)
    wide, narrow = (bootstrap.estimate(mean_of(alike), units)["mean"] for units in (groups, 40))
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_differences_are_of_the_same_draws():
    first, second = mean_of(VALUES), mean_of(VALUES + 0.25)
    found = bootstrap.paired_difference(first, second, 40)["mean"]
    assert (found.value, found.low, found.high) == pytest.approx((0.25,) * 3)
    assert found.p_value == pytest.approx(2 / 1001)
    same = bootstrap.paired_difference(first, first, 40)["mean"]
    assert same.p_value == 1
    noisy = mean_of(VALUES + np.random.default_rng(2).normal(size=40))
    one = bootstrap.paired_difference(first, noisy, 40)["mean"]
    other = intervals.paired_difference(first, noisy, 40)["mean"]
    assert one.p_value == pytest.approx(other.p_value, abs=0.06)


def test_what_no_draw_defines_has_no_interval():
    found = bootstrap.estimate(lambda w: {"m": np.full(len(w), np.nan)}, 3)["m"]
    assert np.isnan([found.value, found.low, found.high]).all()
    nothing = mean_of(np.full(3, np.nan))
    assert np.isnan(bootstrap.paired_difference(nothing, nothing, 3)["mean"].p_value)


@pytest.mark.parametrize("units", [1, np.zeros(4, int)])
def test_a_single_patient_or_group_has_no_interval(units):
    values = VALUES[: np.size(units)]
    found = bootstrap.estimate(mean_of(values), units)["mean"]
    assert found.value == pytest.approx(values.mean()) and np.isnan([found.low, found.high]).all()
