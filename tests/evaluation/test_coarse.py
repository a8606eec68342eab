"""Which slices are looked at first, which after, and the gate between them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pe_unified.evaluation.coarse import (
    LOST,
    Series,
    choose_coarse_gate,
    coarse_slices,
    coarse_step,
    slices_between,
    whole_series,
)


@pytest.mark.parametrize(
    ("step_mm", "every"),
    [(0.5, 3), (0.625, 3), (1.0, 3), (1.0001, 3), (1.25, 2), (1.5, 2), (2.0, 1), (3.0, 1), (8, 1)],
)
def test_slices_that_are_looked_at_first_lie_at_most_3_mm_apart(step_mm, every):
    assert coarse_step(step_mm) == every


def test_of_no_slices_none_is_looked_at():
    assert coarse_slices(0, 3).tolist() == []


@given(st.integers(1, 40), st.sampled_from([1, 2, 3]), st.data())
def test_no_slice_beside_one_that_matters_is_passed_over(count, every, data):
    offset = data.draw(st.integers(0, every - 1))
    first = coarse_slices(count, every, offset)
    matters = np.array(data.draw(st.lists(st.booleans(), min_size=len(first), max_size=len(first))))
    after = slices_between(first, matters)
    assert {0, count - 1} <= set(first.tolist())
    assert (np.diff(first) <= every).all()
    assert set(range(offset, count, every)) <= set(first.tolist())
    assert (np.diff(after) > 0).all()
    of = dict(zip(first.tolist(), matters, strict=True))
    for index in set(range(count)) - set(of):
        below = max(each for each in of if each < index)
        above = min(each for each in of if each > index)
        assert (index in after) == (of[below] or of[above])
    assert not set(after.tolist()) & set(of)


def lost_by_trying(studies, gate):
    """Positive slices left out, and how many there were, over all offsets, each weighed alike."""
    lost = total = 0.0
    for study in studies:
        every = coarse_step(study.step_mm)
        if every == 1:
            continue
        for offset in range(every):
            for index in np.flatnonzero(study.label):
                looked_at = {0, len(study.label) - 1}
                looked_at |= {k for k in range(len(study.label)) if k % every == offset}
                total += 1 / every
                below = max(k for k in looked_at if k <= index)
                above = min(k for k in looked_at if k >= index)
                enclosed = max(study.score[below], study.score[above]) >= gate
                lost += (index not in looked_at and not enclosed) / every
    return lost, total


def random_studies(seed, digits=2):
    rng = np.random.default_rng(seed)
    studies = []
    for step_mm in (1.0, 1.0, 1.5, 2.5):
        count = int(rng.integers(8, 30))
        label = np.repeat(rng.random(count // 4 + 1) < 0.4, 4)[:count]
        score = np.round(np.clip(0.5 * label + rng.normal(0.25, 0.2, count), 0, 1), digits)
        studies.append(Series(label, score, step_mm))
    return studies


@given(st.integers(0, 10_000), st.sampled_from([0.0, LOST, 0.05, 0.3]))
@example(1054, 0.3)  # three positive slices, of which all that are enclosed may be missed
def test_the_gate_is_the_highest_that_leaves_out_no_more_than_it_may(seed, share):
    studies = random_studies(seed)
    found = choose_coarse_gate(studies, lost=share)
    if found is None:
        assert lost_by_trying(studies, 2.0)[0] == 0
        return
    lost, total = lost_by_trying(studies, found.gate)
    assert lost <= share * total + 1e-6
    assert found.lost == pytest.approx(lost / total)
    assert found.positives == round(total) and found.studies == 3
    higher = sorted({each for study in studies for each in study.score if each > found.gate})
    more, _ = lost_by_trying(studies, higher[0] if higher else 2.0)
    everything, _ = lost_by_trying(studies, 2.0)
    assert more > share * total - 1e-6 or more in (lost, everything)


def test_the_gate_lies_no_higher_than_the_threshold():
    study = random_studies(0)[0]
    assert choose_coarse_gate([study]).gate > 0.1
    found = choose_coarse_gate([study], highest=0.1)
    assert found.gate == 0.1
    assert found.lost == lost_by_trying([study], 0.1)[0] / study.label.sum()


def test_thick_slices_and_negative_studies_tell_nothing():
    thin, *_, thick = random_studies(1)
    assert thick.label.any() and choose_coarse_gate([thick]) is None
    assert choose_coarse_gate([]) is None
    negative = Series(np.zeros_like(thin.label), thin.score, 1.0)
    assert choose_coarse_gate([negative]) is None
    assert choose_coarse_gate([thin, thick]).gate == choose_coarse_gate([thin]).gate


def test_series_are_put_in_order_and_those_with_gaps_are_left_out():
    rows = [("A", k % 2, k / 10, "1", "1", k, 1.0) for k in (3, 1, 2)]
    rows += [("A", 1, 0.5, "1", "2", k, 1.0) for k in (0, 2)]
    rows += [("B", 1, 0.5, "1", "1", None, 1.0), ("C", 1, 0.5, "1", "1", 0, None)]
    (found,) = whole_series(rows)
    assert found.score.tolist() == [0.1, 0.2, 0.3] and found.label.tolist() == [True, False, True]
    assert found.step_mm == 1.0
