import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pe_unified.evaluation.intervals import (
    estimate,
    mean_statistic,
    paired_difference,
    ratio,
    subset_weights,
)
from pe_unified.evaluation.simulation import pooled_dice


def mean_of(values):
    """The mean over patients of one number each."""
    values = np.asarray(values, dtype=float)
    return lambda weights: {"mean": ratio(weights @ values, weights.sum(axis=1))}


def test_every_patient_is_left_out_once():
    np.testing.assert_array_equal(subset_weights(3), [[0, 1, 1], [1, 0, 1], [1, 1, 0]])


def test_a_group_is_left_out_as_a_whole():
    np.testing.assert_array_equal(subset_weights(np.array([0, 1, 0])), [[0, 1, 0], [1, 0, 1]])


def test_many_patients_are_left_out_in_blocks():
    weights = subset_weights(25, resamples=10, seed=3)
    assert weights.shape == (10, 25)
    assert ((weights == 0).sum(axis=0) == 1).all()
    assert set((weights == 0).sum(axis=1)) == {2, 3}
    np.testing.assert_array_equal(weights, subset_weights(25, 10, seed=3))
    assert (weights != subset_weights(25, 10, seed=4)).any()


def test_interval_of_a_mean_is_that_of_student():
    """Of two values, and of many, no patient weighs more than another."""
    found = estimate(mean_of([2.0, 4.0]), 2)["mean"]
    ends = stats.t.interval(0.95, df=1, loc=3.0, scale=1.0)
    assert (found.value, found.low, found.high) == pytest.approx((3.0, *ends))
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    for resamples, width in ((400, 0.01), (100, 0.1)):
        found = estimate(mean_of(values), 400, resamples)["mean"]
        low, high = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
        assert (found.low, found.high) == pytest.approx((low, high), abs=width)


def test_interval_of_a_share_stays_within_zero_and_one():
    found = estimate(mean_of([1.0, 1.0, 0.6, 1.0]), 4)["mean"]
    assert 0 < found.low < found.value < found.high < 1


def test_the_interval_of_a_loss_stays_above_zero_and_may_pass_one():
    """On the logarithmic scale, it is that of Student by the error of the logarithm."""
    values = np.array([0.2, 0.9, 1.6, 0.5])
    found = estimate(lambda w: {"weighted_bce": mean_of(values)(w)["mean"]}, 4)["weighted_bce"]
    assert 0 < found.low < found.value < 1 < found.high
    assert found.low * found.high == pytest.approx(found.value**2)
    reach = stats.t.ppf(0.975, 3) * stats.sem(values)
    assert np.log(found.high / found.value) == pytest.approx(reach / values.mean(), rel=0.02)


def test_a_few_patients_that_carry_most_widen_the_interval():
    """With as large an error, their number alone tells how sure it is."""
    even, few = np.tile([1.0, -1.0], 10), np.zeros(20)
    few[:2] = np.array([1.0, -1.0]) * np.sqrt(10)
    alike, apart = (estimate(mean_of(5 + each), 20)["mean"] for each in (even, few))
    assert apart.high - apart.value > 1.2 * (alike.high - alike.value)


@pytest.mark.parametrize(("patients", "allowed"), [(5, 0.07), (8, 0.06), (14, 0.06), (22, 0.06)])
def test_equal_arms_are_called_different_about_as_often_as_p_says(patients, allowed):
    """On skewed patients; percentiles of the bootstrap do so two to four times as often."""
    rng = np.random.default_rng(11)
    found = [
        paired_difference(*pooled_dice(patients, 0.0, rng), patients)["dice"] for _ in range(400)
    ]
    defined = [each for each in found if not np.isnan(each.p_value)]
    error = 2 * np.sqrt(0.05 * 0.95 / len(defined))
    assert np.mean([each.p_value < 0.05 for each in defined]) < allowed + error
    for each in defined:
        assert (each.p_value < 0.05) == (each.low > 0 or each.high < 0)


def test_groups_are_what_an_interval_rests_on():
    """Copies of a patient add nothing that was not known."""
    values = np.array([0.2, 0.4, 0.9, 0.5])
    alone = estimate(mean_of(values), 4)["mean"]
    copied = estimate(mean_of(np.repeat(values, 3)), np.repeat(np.arange(4), 3))["mean"]
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-100, 100), min_size=6, max_size=30), st.integers(0, 1000))
def test_interval_contains_the_point_and_grows_with_its_level(values, seed):
    narrow = estimate(mean_of(values), len(values), 20, seed, level=0.8)["mean"]
    wide = estimate(mean_of(values), len(values), 20, seed, level=0.95)["mean"]
    assert wide.low - 1e-9 <= narrow.low <= narrow.high <= wide.high + 1e-9
    assert wide.low - 1e-9 <= wide.value <= wide.high + 1e-9


def test_one_patient_has_no_interval():
    found = estimate(mean_of([3.0]), 1)["mean"]
    assert found.value == 3.0 and np.isnan([found.low, found.high]).all()


def test_what_one_patient_decides_has_no_interval():
    labelled = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])

    def statistic(weights):
        hits, positives = (weights @ labelled).T
        return {"sensitivity": ratio(hits, positives)}

    found = estimate(statistic, 3)["sensitivity"]
    assert found.value == 1.0 and np.isnan([found.low, found.high]).all()


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


def test_several_runs_are_averaged_on_the_same_patients():
    arm = mean_statistic([mean_of([1, 2, 3]), mean_of([1, 2, 3]), mean_of([4, 5, 6])])
    weights = subset_weights(3)
    np.testing.assert_allclose(arm(weights)["mean"], mean_of([2, 3, 4])(weights)["mean"])


@pytest.mark.parametrize("call", [lambda: subset_weights(0), lambda: mean_statistic([])])
def test_nothing_to_leave_out_is_an_error(call):
    with pytest.raises(ValueError):
        call()


def test_comparison_needs_patients_and_resamples():
    for one in (1, np.array([0])):
        with pytest.raises(ValueError, match="two patients or more, independent"):
            paired_difference(mean_of([1]), mean_of([1]), one)
    with pytest.raises(ValueError, match="resamples"):
        paired_difference(mean_of([1, 2]), mean_of([1, 2]), 2, resamples=0)
