import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from weights import at_unit_weights, drawn_weights

from pe_unified.evaluation.slices import (
    SliceTable,
    WeightedAuc,
    choose_gate,
    choose_threshold,
    roc_points,
)


def random_table(seed: int, slices: int = 120, patients: int = 9, ties: bool = False) -> SliceTable:
    generator = np.random.default_rng(seed)
    label = generator.random(slices) < 0.4
    label[:2] = [True, False]
    score = np.clip(0.3 * label + 0.7 * generator.random(slices), 0, 1)
    if ties:
        score = np.round(score, 1)
    names = [f"P{index:02d}" for index in generator.integers(0, patients, slices)]
    return SliceTable.build(names, label, score)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_all_metrics_equal_scikit_learn(seed, ties):
    table = random_table(seed, ties=ties)
    found = at_unit_weights(table, 0.45)
    called = table.score >= 0.45
    assert found == pytest.approx(
        {
            "accuracy": reference.accuracy_score(table.label, called),
            "auc": reference.roc_auc_score(table.label, table.score),
            "f1": reference.f1_score(table.label, called),
            "sensitivity": reference.recall_score(table.label, called),
            "specificity": reference.recall_score(~table.label, ~called),
        },
        abs=1e-12,
    )


def test_by_hand():
    table = SliceTable.build(list("aabb"), [1, 0, 1, 0], [0.9, 0.6, 0.4, 0.1])
    # Pairs: 0.9 wins both, 0.4 wins one of two: 3 of 4.
    assert at_unit_weights(table) == pytest.approx(
        {"accuracy": 0.5, "auc": 0.75, "f1": 0.5, "sensitivity": 0.5, "specificity": 0.5}
    )
    # A score at the threshold is positive.
    assert at_unit_weights(table, 0.6)["specificity"] == at_unit_weights(table, 0.5)["specificity"]
    assert at_unit_weights(table, 0.9)["sensitivity"] == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_weights_equal_repeated_patients(seed):
    table = random_table(seed, ties=True)
    weights = drawn_weights(len(table.patients), 15, seed)
    weighted = table.statistic(0.5)(weights)
    for row, weight in enumerate(weights):
        repeats = weight[table.patient].astype(int)
        label, score = np.repeat(table.label, repeats), np.repeat(table.score, repeats)
        repeated = at_unit_weights(SliceTable.build(["x"] * len(label), label, score))
        for name, value in repeated.items():
            assert weighted[name][row] == pytest.approx(value, nan_ok=True), name


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 1000), st.integers(0, 3)), min_size=2, max_size=40
    )
)
def test_auc_depends_on_the_order_of_scores_alone(cases):
    label = np.array([case[0] for case in cases])
    score = np.array([case[1] for case in cases]) / 1000
    names = [f"P{case[2]}" for case in cases]
    plain = at_unit_weights(SliceTable.build(names, label, score))["auc"]
    transformed = at_unit_weights(SliceTable.build(names, label, np.exp(3 * score) / 30))["auc"]
    order = np.random.default_rng(0).permutation(len(cases))
    shuffled = at_unit_weights(
        SliceTable.build([names[i] for i in order], label[order], score[order])
    )["auc"]
    flipped = at_unit_weights(SliceTable.build(names, ~label, score))["auc"]
    if label.all() or not label.any():
        assert np.isnan([plain, transformed, shuffled, flipped]).all()
    else:
        assert plain == pytest.approx(transformed) == pytest.approx(shuffled)
        assert plain + flipped == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(3))
def test_roc_points_equal_scikit_learn(seed):
    table = random_table(seed, ties=True)
    fpr, sensitivity, thresholds = roc_points(table.score, table.label)
    expected = reference.roc_curve(table.label, table.score, drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected[0])
    np.testing.assert_allclose(sensitivity, expected[1])
    np.testing.assert_allclose(thresholds, expected[2])
    assert np.trapezoid(sensitivity, fpr) == pytest.approx(
        WeightedAuc(table.score, table.label, table.patient)(np.ones((1, 9)))[0]
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_is_better_than_the_chosen_one(seed):
    table = random_table(seed, ties=True)

    def merit(threshold):
        found = at_unit_weights(table, threshold)
        return found["sensitivity"] + found["specificity"] - 1

    best = max(merit(threshold) for threshold in np.linspace(0, 1, 1001))
    assert merit(choose_threshold(table)) == pytest.approx(best)


def test_threshold_lies_between_the_classes_when_they_part():
    table = SliceTable.build(list("abcd"), [0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9])
    assert choose_threshold(table) == pytest.approx(0.4)


def test_of_equally_good_thresholds_the_most_sensitive_is_taken():
    table = SliceTable.build(list("aabb"), [1, 0, 1, 0], [0.9, 0.6, 0.4, 0.1])
    assert choose_threshold(table) == pytest.approx(0.25)


def test_one_class_chooses_no_threshold_and_defines_no_auc():
    table = SliceTable.build(["a", "b"], [0, 0], [0.1, 0.9])
    assert choose_threshold(table) is None
    found = at_unit_weights(table)
    assert np.isnan([found[name] for name in ("auc", "f1", "sensitivity")]).all()
    assert found["specificity"] == found["accuracy"] == 0.5


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="patient b"):
        SliceTable.build(["a", "b"], [0, 1], [0.1, float("nan")])
    with pytest.raises(ValueError, match="one of each"):
        SliceTable.build(["a"], [0, 1], [0.1, 0.2])


def test_table_survives_the_disk(tmp_path):
    table = random_table(1)
    table.save(tmp_path / "new" / "slices.npz")
    back = SliceTable.load(tmp_path / "new" / "slices.npz")
    assert back.patients == table.patients
    for field in ("patient", "label", "score"):
        np.testing.assert_array_equal(getattr(back, field), getattr(table, field))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["slices.npz"]


def test_another_table_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", patients=np.array(["a"]), boxes=np.zeros(1))
    with pytest.raises(ValueError, match="not a SliceTable"):
        SliceTable.load(tmp_path / "other.npz")


@settings(max_examples=60)
@given(st.integers(1, 700), st.integers(0, 50), st.floats(0.5, 1.0), st.integers(0, 9))
def test_the_gate_keeps_its_share_and_no_more_than_needed(positives, negatives, share, seed):
    rng = np.random.default_rng(seed)
    label = np.arange(positives + negatives) < positives
    score = np.round(rng.random(len(label)), 2)  # with ties
    table = SliceTable.build(["p"] * len(label), label, score)
    gate = choose_gate(table, share)
    assert (score[label] >= gate).mean() >= share - 1e-9
    higher = np.nextafter(gate, 2)
    assert (score[label] >= higher).mean() < share + 1e-9 or gate == score[label].max()


def test_no_gate_without_a_positive_slice():
    assert choose_gate(SliceTable.build(["p"] * 3, [0, 0, 0], [0.1, 0.2, 0.3])) is None
