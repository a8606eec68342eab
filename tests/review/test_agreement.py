"""Tables of readers: counts, and kappa beside scikit-learn's and a jackknife of its own."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from review_reports import decision, write_report
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from pe_unified.review.agreement import cohens_kappa, write_agreement
from pe_unified.review.store import ReviewStore


def spread(tables):
    """Two lists of answers with these counts."""
    one, other = np.divmod(np.repeat(np.arange(tables[0].size), tables.sum(axis=0).ravel()), 2)
    return one, other


@given(arrays.arrays(np.int64, (5, 2, 2), elements=st.integers(0, 6)))
def test_kappa_is_that_of_scikit_learn(tables):
    found = cohens_kappa(tables.astype(float))
    one, other = spread(tables)
    if len(set(one) | set(other)) < 2:
        assert np.isnan(found.value)
        return
    assert found.value == pytest.approx(cohen_kappa_score(one, other))
    swapped = cohens_kappa(tables.transpose(0, 2, 1).astype(float))
    np.testing.assert_allclose((swapped.low, swapped.high), (found.low, found.high))
    assert np.isnan(found.low) or -1 <= found.low <= found.value <= found.high <= 1


def test_the_interval_leaves_out_studies():
    """The jackknife written out: Student's t over pseudovalues of alike studies."""
    tables = np.array([[[3, 1], [0, 2]], [[2, 0], [1, 4]], [[4, 1], [1, 1]], [[1, 2], [0, 5]]])
    every = [cohen_kappa_score(*spread(np.delete(tables, k, 0))) for k in range(4)]
    value = cohen_kappa_score(*spread(tables))
    squares = (np.array(every) - value) ** 2
    error = np.sqrt(3 / 4 * squares.sum())
    found = cohens_kappa(tables.astype(float))
    # The degrees of freedom lie between 1 and 3; at most those of alike studies.
    low, high = (value - stats.t.ppf(0.975, df) * error for df in (1, 3))
    assert max(low, -1) <= found.low <= high
    assert found.value == pytest.approx(value)


def test_a_perfect_agreement_has_no_interval():
    found = cohens_kappa(np.array([[[2.0, 0.0], [0.0, 3.0]]] * 4))
    assert found.value == 1 and np.isnan(found.low) and np.isnan(found.high)


@pytest.fixture
def read(tmp_path):
    """Two readers of three studies; Bo has not finished the last."""
    for number in range(3):
        write_report(tmp_path / f"s{number}", study=f"1.{number}")
    store = ReviewStore(tmp_path)

    def say(study, reader, kind, lesion=None, value=()):
        return store.add(decision(kind, lesion, value, reader, f"1.{study}"))

    for study, ann, bo in ((0, "ar", "aa"), (1, "rr", "rr"), (2, "aa", "ra")):
        for reader, verdicts in (("Ann", ann), ("Bo", bo)):
            for lesion, letter in enumerate(verdicts, start=1):
                say(study, reader, {"a": "accept", "r": "reject"}[letter], lesion)
            if (study, reader) != (2, "Bo"):
                say(study, reader, "done")
    box = {"box": [1, 1, 2, 2], "slice": 0}
    say(0, "Ann", "redraw", 1, box)
    say(0, "Ann", "add", None, box)
    gone = say(0, "Ann", "add", None, box)
    say(0, "Ann", "undo", None, {"of": gone.number})
    say(0, "Ann", "relabel", 1, {"label": "chronic"})
    say(0, "Ann", "comment", 1, {"text": "|"})
    say(0, "Ann", "done")
    write_agreement(tmp_path / "out", store)
    return tmp_path / "out"


def rows(path):
    with path.open(encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_readers_are_counted(read):
    ann, bo = rows(read / "readers.csv")
    counts = ("studies_done", "accepted", "rejected", "redrawn", "added", "relabelled", "comments")
    assert [ann[name] for name in counts] == ["3", "2", "3", "1", "1", "1", "1"]
    assert [bo[name] for name in counts] == ["2", "3", "3", "0", "0", "0", "0"]
    assert (ann["share_kept"], bo["share_kept"]) == ("0.5", "0.5")
    assert 0 < float(ann["share_kept_low"]) < 0.5 < float(ann["share_kept_high"]) < 1


def test_two_readers_are_compared(read):
    exam, lesion = rows(read / "agreement.csv")
    assert (exam["first"], exam["second"], exam["level"]) == ("Ann", "Bo", "exam")
    assert (exam["studies"], exam["compared"], exam["agreed"]) == ("2", "2", "2")
    assert float(exam["kappa"]) == 1  # one positive, one negative
    # Ann 1 0 0 0 1 1, Bo 1 1 0 0 0 1.
    assert (lesion["studies"], lesion["compared"], lesion["agreed"]) == ("3", "6", "4")
    expected = cohen_kappa_score([1, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 1])
    assert float(lesion["kappa"]) == pytest.approx(expected, abs=1e-4)
    text = (read / "agreement.md").read_text()
    assert "| Ann | Bo | exam | 2 | 2 | 2 | 1.0 |" in text
