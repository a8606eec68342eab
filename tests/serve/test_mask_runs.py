"""Masks as runs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pe_unified.serve.mask_runs import mask_of, runs_of

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))


@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 3))))
def test_runs_come_back_as_the_mask(mask):
    runs = runs_of(mask)
    assert np.array_equal(mask_of(runs, mask.shape), mask)
    assert set(runs) == set(np.flatnonzero(mask.any(axis=(1, 2))))


def test_runs_are_as_documented():
    mask = np.zeros((2, 3, 4), np.uint8)
    mask[1, 0, 2:] = mask[1, 1, 0] = 5
    mask[1, 2, 3] = 7
    assert runs_of(mask) == {1: [2, 3, 5, 11, 1, 7]}


@pytest.mark.parametrize(
    "runs",
    [
        *({2: [0, 1, 1]}, {-1: [0, 1, 1]}, {0: [0, 1]}, {0: [0, 13, 1]}, {0: [12, 1, 1]}),
        *({0: [0, 0, 1]}, {0: [0, 1, 256]}, {0: [0, 1, 0]}, {0: [[0, 1, 1]]}, {"a": [0, 1, 1]}),
    ],
)
def test_runs_that_do_not_fit_are_refused(runs):
    with pytest.raises(ValueError):
        mask_of(runs, (2, 3, 4))
