import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_unified.evaluation.exam_score import exam_probability


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.3, 9))
def test_equals_the_best_window(values, step):
    width = min(max(round(6 / step), 1), len(values))
    windows = [np.mean(values[k : k + width]) for k in range(len(values) - width + 1)]
    assert exam_probability(values, step) == pytest.approx(max(windows), abs=1e-9)


def test_one_bright_slice_counts_less_than_a_run():
    single, run = [0.0] * 9, [0.0] * 9
    single[4] = 1.0
    run[3:7] = [0.8] * 4
    assert exam_probability(single, 1.5) == pytest.approx(0.25)
    assert exam_probability(run, 1.5) == pytest.approx(0.8)


@pytest.mark.parametrize("values", [[], [0.2, float("nan")]])
def test_needs_every_slice(values):
    with pytest.raises(ValueError, match="every slice"):
        exam_probability(values, 1.0)
