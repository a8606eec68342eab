import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pe_unified.evaluation.delong import auc_interval, auc_with_variance


def by_pairs(label, score):
    """The definition, pair by pair: area, and the variances of its structural components."""
    above = [s for s, y in zip(score, label) if y]
    below = [s for s, y in zip(score, label) if not y]
    kernel = [[1.0 if a > b else 0.5 if a == b else 0.0 for b in below] for a in above]
    area = sum(map(sum, kernel)) / (len(above) * len(below))
    rows = [sum(row) / len(below) for row in kernel]
    columns = [sum(column) / len(above) for column in zip(*kernel)]
    spread = [
        sum((value - area) ** 2 for value in values) / (len(values) - 1)
        for values in (rows, columns)
    ]
    return area, spread[0] / len(above) + spread[1] / len(below)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=4, max_size=40).filter(
        lambda cases: 2 <= sum(label for label, _ in cases) <= len(cases) - 2
    )
)
def test_equals_the_definition_with_ties(cases):
    label, score = zip(*cases)
    assert auc_with_variance(label, score) == pytest.approx(by_pairs(label, score), abs=1e-12)
    assert auc_with_variance(label, score)[0] == pytest.approx(roc_auc_score(label, score))


def test_by_hand():
    """Positives 5, 3, 2 and negatives 4, 2, 1.

    5 beats all three, 3 beats two, 2 beats one and ties with one: 3 + 2 + 1.5 = 6.5 of 9. The
    positives win 1, 2/3 and 1/2, whose variance is 7/108; the negatives lose to 1/3 (4), 5/6 (2)
    and 1 (1), whose variance is 13/108. Each over 3: 20/324.
    """
    area, variance = auc_with_variance([1, 1, 1, 0, 0, 0], [5, 3, 2, 4, 2, 1])
    assert area == pytest.approx(6.5 / 9)
    assert variance == pytest.approx(20 / 324)
    # logit(13/18) = ln(13/5) = 0.955511; its error is sqrt(20/324) / (13/18 * 5/18) = 1.238438.
    found = auc_interval([1, 1, 1, 0, 0, 0], [5, 3, 2, 4, 2, 1])
    low, high = (0.955511 + sign * 1.959964 * 1.238438 for sign in (-1, 1))
    assert found.low == pytest.approx(1 / (1 + math.exp(-low)), abs=1e-6)
    assert found.high == pytest.approx(1 / (1 + math.exp(-high)), abs=1e-6)


def test_a_lower_level_gives_a_narrower_interval_within_bounds():
    generator = np.random.default_rng(0)
    label = np.arange(60) % 3 == 0
    score = label + generator.normal(size=60)
    wide, narrow = auc_interval(label, score), auc_interval(label, score, level=0.5)
    assert 0 < wide.low < narrow.low < wide.value < narrow.high < wide.high < 1


def test_intervals_hold_on_simulated_cases():
    """Two normal distributions one apart have an area of Phi(1 / sqrt 2) = 0.7602."""
    generator = np.random.default_rng(1)
    label = np.arange(80) < 30
    held = 0
    for _ in range(400):
        found = auc_interval(label, label + generator.normal(size=80))
        held += found.low <= 0.76025 <= found.high
    assert 0.92 < held / 400 < 0.98


@pytest.mark.parametrize(
    ("label", "score", "area"),
    [
        ([1, 1, 0, 0], [4, 3, 2, 1], 1.0),
        ([1, 1, 0, 0], [1, 1, 1, 1], 0.5),
        ([1, 0, 0], [2, 3, 1], 0.5),
        ([1, 1], [2, 3], math.nan),
    ],
)
def test_what_shows_no_variation_has_no_interval(label, score, area):
    found = auc_interval(label, score)
    assert found.value == pytest.approx(area, nan_ok=True)
    assert math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize(
    ("label", "score", "message"),
    [([1, 0], [0.5], "one score per label"), ([1, 0], [0.5, math.nan], "NaN")],
)
def test_wrong_input_is_refused(label, score, message):
    with pytest.raises(ValueError, match=message):
        auc_with_variance(label, score)
