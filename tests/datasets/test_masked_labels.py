import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_unified.datasets.masked_labels import hidden_labels

LABEL = st.sampled_from([0.0, 1.0, float("nan")])
EXAMS = st.lists(st.lists(LABEL, max_size=30), min_size=1, max_size=12)


@given(labels=EXAMS, portion=st.floats(0, 1))
def test_the_share_is_exact_over_the_set_and_even_along_it(labels, portion):
    hidden = hidden_labels(labels, portion)
    assert [len(exam) for exam in hidden] == [len(exam) for exam in labels]
    pairs = [pair for exam, gone in zip(labels, hidden) for pair in zip(exam, gone)]
    assert not any(gone for label, gone in pairs if np.isnan(label))
    known = [gone for label, gone in pairs if not np.isnan(label)]
    assert sum(known) == round(portion * len(known))
    for start in range(len(known)):  # no stretch has more or fewer than its share
        for end in range(start, len(known), 7):
            share = round(portion * len(known)) / max(len(known), 1)
            assert abs(sum(known[start:end]) - share * (end - start)) < 1


@given(labels=EXAMS, portion=st.floats(0, 1), seed=st.integers(0, 5))
def test_whole_exams_lose_their_labels_and_a_larger_share_holds_the_smaller(labels, portion, seed):
    hidden = hidden_labels(labels, portion, "exams", seed)
    labelled = [k for k, exam in enumerate(labels) if not np.isnan(exam).all()]
    gone = [k for k in labelled if any(hidden[k])]
    assert len(gone) == round(portion * len(labelled))
    for k in gone:
        assert hidden[k] == [not np.isnan(label) for label in labels[k]]
    more = hidden_labels(labels, (1 + portion) / 2, "exams", seed)
    assert all(any(more[k]) for k in gone)


def test_from_none_to_all():
    labels = [[0, 1, 0], [1, 0]]
    for mode in ("even", "exams"):
        assert not np.concatenate(hidden_labels(labels, 0, mode)).any()
        assert np.concatenate(hidden_labels(labels, 1, mode)).all()


def test_no_other_share_or_mode():
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        hidden_labels([[0]], 1.5)
    with pytest.raises(ValueError, match="'even' or 'exams'"):
        hidden_labels([[0]], 0.5, "odd")
