import random

import numpy as np
import pytest
import torch

from pe_unified.engine.random_state import gather_random_states, restore_random_state


def draws():
    return float(torch.rand(())), float(np.random.random()), random.random()  # noqa: NPY002


@pytest.mark.parametrize("stored_as", [list, lambda states: states[0]])
def test_generators_draw_on_also_from_a_single_state(stored_as):
    states = stored_as(gather_random_states())
    expected = draws()
    assert draws() != expected
    assert restore_random_state(states)
    assert draws() == expected


def test_states_of_other_processes_are_left_alone():
    states = gather_random_states() * 2
    before = draws()
    assert not restore_random_state(states)
    assert draws() != before
