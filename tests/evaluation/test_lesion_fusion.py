"""The fused score against scikit-learn's logistic regression, and what it must never do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from pe_unified.evaluation.lesion_fusion import (
    ANSWERS,
    LEAST,
    LesionFusion,
    answers_row,
    fit_fusion,
    scores_out_of_fold,
)


def lesions(count=400, seed=0, missing=0.3):
    """Answers that each tell something, some of them missing, and the truth."""
    rng = np.random.default_rng(seed)
    true = rng.random(count) < 0.4
    rows = rng.normal(np.where(true, 1.0, -1.0)[:, None], (1.5, 2.0, 3.0, 1.0, 1.0), (count, 5))
    rows[:, 4] = rng.normal(-2 + true, 1.0)
    for column in (1, 3):
        rows[rng.random(count) < missing, column] = np.nan
    return rows, true


def test_equals_scikit_learn():
    rows, true = lesions()
    columns = []
    for values in rows.T:
        known = values[~np.isnan(values)]
        columns.append(np.nan_to_num((values - known.mean()) / known.std()))
        columns.append(np.isnan(values).astype(float))
    design = np.stack(columns, axis=1)
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(design, true)
    assert (reference.coef_[0][::2] > 0).all()  # so that no bound holds
    fusion = fit_fusion(rows, true)
    np.testing.assert_allclose(fusion.score(rows), reference.predict_proba(design)[:, 1], atol=2e-4)
    assert (fusion.lesions, fusion.true) == (400, true.sum())
    assert LesionFusion.from_dict(fusion.as_dict()) == fusion


def test_it_ranks_better_than_the_highest_answer():
    from sklearn.metrics import roc_auc_score

    fusion = fit_fusion(*lesions(seed=1))
    rows, true = lesions(seed=2)
    highest = np.nanmax(rows[:, [0, 1, 3]], axis=1)
    assert roc_auc_score(true, fusion.score(rows)) > roc_auc_score(true, highest) + 0.05


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), answer=st.sampled_from(range(4)), more=st.floats(0, 5))
def test_a_higher_probability_never_lowers_the_score(seed, answer, more):
    rows, true = lesions(60, seed)
    if seed % 2:
        rows[:, answer] *= -1  # as chance may have it in few lesions
    fusion = fit_fusion(rows, true)
    higher = rows.copy()
    higher[:, answer] += more
    known = ~np.isnan(rows[:, answer])
    assert (fusion.score(higher)[known] >= fusion.score(rows)[known] - 1e-12).all()


def test_what_was_never_seen_in_fitting_is_not_looked_at():
    rows, true = lesions()
    rows[:, 3] = np.nan
    fusion = fit_fusion(rows, true)
    assert [term.answer for term in fusion.terms] == [each for each in ANSWERS if each != "mark"]
    marked = rows.copy()
    marked[:, 3] = 5.0
    np.testing.assert_array_equal(fusion.score(marked), fusion.score(rows))
    nothing = fusion.score(np.full((1, 5), np.nan))
    assert np.isfinite(nothing).all()


def test_too_few_lesions_fit_nothing():
    rows, true = lesions(60)
    few = np.zeros(60, bool)
    few[: LEAST - 1] = True
    assert fit_fusion(rows, few) is None and fit_fusion(rows, ~few) is None
    few[LEAST - 1] = True
    assert fit_fusion(rows, few) is not None
    assert fit_fusion(np.full((60, 5), 1.0), true) is None


def test_a_row_has_log_odds_and_the_logarithm_of_the_volume():
    row = answers_row(0.9, None, 1.0, 0.0, 2.0)
    assert row[0] == pytest.approx(logit(0.9)) and np.isnan(row[1])
    assert np.isfinite(row[2:4]).all() and expit(row[3]) < 1e-3 < 0.999 < expit(row[2])
    assert row[4] == pytest.approx(np.log(2.0))
    assert np.isnan(answers_row(None, 0.5, None, None, None)[[0, 2, 3, 4]]).all()


def test_scores_of_a_patient_do_not_rest_on_its_own_truth():
    rows, true = lesions(200)
    patients = [f"p{k // 10}" for k in range(200)]
    fusion = fit_fusion(rows, true)
    scores = scores_out_of_fold(rows, true, patients, fusion)
    lied = true.copy()
    lied[:10] = ~lied[:10]
    again = scores_out_of_fold(rows, lied, patients, fit_fusion(rows, lied))
    np.testing.assert_array_equal(scores[:10], again[:10])
    assert not np.array_equal(scores[10:], again[10:])
    few = scores_out_of_fold(rows[:24], true[:24], ["one"] * 24, fusion)
    np.testing.assert_array_equal(few, fusion.score(rows[:24]))  # nobody else to fit on
