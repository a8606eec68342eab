"""Numbers as tables and pages write them."""

import pytest

from pe_unified.evaluation.in_words import (
    difference_in_words,
    interval_in_words,
    p_in_words,
    with_interval,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("numbers", "said", "as_difference"),
    [
        ((0.8124, 0.7, 0.891), "0.812 [0.70, 0.89]", "+0.812 [+0.700, +0.891]"),
        ((0.0, -0.1, 0.1), "0.000 [-0.10, 0.10]", "+0.000 [-0.100, +0.100]"),
        ((0.5, None, None), "0.500", "+0.500"),
        ((0.5, NAN, NAN), "0.500", "+0.500"),
        ((None, None, None), "undefined", "undefined"),
        ((NAN, NAN, NAN), "undefined", "undefined"),
    ],
)
def test_a_number_with_its_interval(numbers, said, as_difference):
    assert interval_in_words(*numbers) == said
    assert difference_in_words(*numbers) == as_difference


def test_fewer_digits_for_figures():
    assert interval_in_words(0.8124, 0.7, 0.891, digits=2) == "0.81 [0.70, 0.89]"


def test_by_the_key_of_a_metric():
    metrics = {"cls/auc": 0.8, "cls/auc_ci": [0.7, 0.9], "seg/dice": 0.25}
    assert with_interval(metrics, "cls/auc") == "0.800 [0.70, 0.90]"
    assert with_interval(metrics, "seg/dice") == "0.250"
    assert with_interval(metrics, "det/mAP") == "undefined"


def test_p_is_never_zero():
    assert [p_in_words(p) for p in (0.0, 0.0004, 0.0006, 1.0)] == [
        *("<0.001", "<0.001", "0.001", "1.000")
    ]
    assert p_in_words(None) == p_in_words(NAN) == ""
