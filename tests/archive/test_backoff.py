"""Delays grow, are bounded, and differ."""

import random

from hypothesis import given
from hypothesis import strategies as st

from pe_unified.archive.backoff import Backoff


@given(failures=st.integers(1, 10_000), first=st.floats(0.1, 100), most=st.floats(100, 10_000))
def test_a_delay_lies_in_the_upper_half(failures, first, most):
    whole = min(most, first * 2 ** min(failures - 1, 40))
    delay = Backoff(first, most).delay_s(failures)
    assert whole / 2 <= delay <= whole


def test_what_failed_together_does_not_come_back_together():
    backoff, rng = Backoff(10.0), random.Random(0)
    delays = [backoff.delay_s(3, rng) for _ in range(200)]
    assert min(delays) < 22 and max(delays) > 38 and abs(sum(delays) / 200 - 30) < 1.5


def test_given_up():
    backoff = Backoff(first_s=100.0, most_s=400.0, give_up_h=0.25)  # 75, 150, 300, 300 s: 825 s
    assert not backoff.given_up(4) and backoff.given_up(5)
