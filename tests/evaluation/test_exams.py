import math

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from weights import drawn_weights

from pe_unified.evaluation.exams import EXAM_WEIGHTS, IMAGE_WEIGHT, ExamTable, exam_loss_parts

NEGATIVE = [1, 0, 0, 0, 0, 0, 0, 0, 0]
POSITIVE = [0, 0, 0, 0, 1, 1, 0, 1, 0]


def random_exams(seed: int, exams: int = 12):
    generator = np.random.default_rng(seed)
    labels = (generator.random((exams, 9)) < 0.4).astype(float)
    labels[:2] = [[0] * 9, [1] * 9]
    probabilities = generator.uniform(0.05, 0.95, (exams, 9))
    lengths = generator.integers(3, 9, exams)
    slices = [(generator.random(length) < 0.3).astype(float) for length in lengths]
    found = [generator.uniform(0.05, 0.95, length) for length in lengths]
    return [f"P{i % 5}" for i in range(exams)], labels, probabilities, slices, found


def test_label_weights_of_the_challenge_sum_to_one():
    assert sum(EXAM_WEIGHTS.values()) == pytest.approx(1.0, abs=1e-9)


def test_loss_by_hand():
    # An even guess costs ln 2 everywhere, whatever the weights.
    half = exam_loss_parts(POSITIVE, [0.5] * 9, [1, 0, 0, 1], [0.5] * 4)
    assert half[0] / half[1] == pytest.approx(math.log(2))
    # Denominator: all label weights, and w * q * n = 0.07361963 * 0.5 * 4.
    assert half[1] == pytest.approx(1.0 + 0.07361963 * 2, abs=1e-9)
    # One slice of two wrong, exam labels nearly perfect.
    probability = np.clip(POSITIVE, 1e-15, 1 - 1e-15)
    numerator, _ = exam_loss_parts(POSITIVE, probability, [1, 0], [0.25, 0.5])
    by_hand = 0.07361963 * 0.5 * (-math.log(0.25) - math.log(0.5))
    assert numerator == pytest.approx(by_hand, abs=1e-9)


def test_slices_of_a_negative_exam_weigh_nothing():
    good = exam_loss_parts(NEGATIVE, [0.5] * 9, [0, 0], [0.1, 0.1])
    bad = exam_loss_parts(NEGATIVE, [0.5] * 9, [0, 0], [0.9, 0.9])
    assert good == bad
    assert good[1] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_loss_of_a_split_equals_the_formula_by_scikit_learn(seed):
    patients, labels, probabilities, slices, found = random_exams(seed)
    numerator = denominator = 0.0
    for label, probability, truth, guess in zip(labels, probabilities, slices, found):
        for weight, one, p in zip(EXAM_WEIGHTS.values(), label, probability):
            numerator += weight * log_loss([one], [p], labels=[0, 1])
            denominator += weight
        share = truth.mean()
        for one, p in zip(truth, guess):
            numerator += IMAGE_WEIGHT * share * log_loss([one], [p], labels=[0, 1])
        denominator += IMAGE_WEIGHT * share * len(truth)
    table = ExamTable.build(patients, labels, probabilities, slices, found)
    values = table.statistic()(np.ones((1, 5)))
    assert values["weighted_bce"][0] == pytest.approx(numerator / denominator)
    for column, name in enumerate(EXAM_WEIGHTS):
        expected = roc_auc_score(labels[:, column], probabilities[:, column])
        assert values[f"auc_{name}"][0] == pytest.approx(expected)


def test_weights_equal_repeated_exams():
    patients, *arrays = random_exams(7)
    table = ExamTable.build(patients, *arrays)
    weights = drawn_weights(5, 6, 0)
    weighted = table.statistic()(weights)
    for row, weight in enumerate(weights.astype(int)):
        again = np.repeat(np.arange(len(patients)), weight[table.patient])
        labels, probabilities, slices, found = (
            [array[index] for index in again] for array in arrays
        )
        repeated = ExamTable.build(["x"] * len(again), labels, probabilities, slices, found)
        for name, value in repeated.statistic()(np.ones((1, 1))).items():
            assert weighted[name][row] == pytest.approx(value[0], nan_ok=True), name


def test_unknown_exam_labels_are_left_out():
    unknown = [float("nan"), *NEGATIVE[1:]]
    numerator, denominator = exam_loss_parts(unknown, [0.5] * 9, [0], [0.5])
    assert denominator == pytest.approx(1 - EXAM_WEIGHTS["negative_exam_for_pe"], abs=1e-9)
    assert numerator / denominator == pytest.approx(math.log(2))
    labels = np.array([unknown, NEGATIVE, POSITIVE])
    table = ExamTable.build(
        list("abc"), labels, np.full((3, 9), 0.5), [np.ones(2)] * 3, [np.ones(2)] * 3
    )
    values = table.statistic()(np.ones((1, 3)))
    assert values["auc_negative_exam_for_pe"][0] == 0.5
    assert np.isnan(values["auc_indeterminate"][0])


def test_no_key_has_loss_in_it():
    table = ExamTable.build(["a"], [NEGATIVE], [[0.5] * 9], [np.zeros(1)], [np.zeros(1)])
    assert not [name for name in table.statistic()(np.ones((1, 1))) if "loss" in name]


@pytest.mark.parametrize(
    ("exam", "message"),
    [
        ((NEGATIVE[:8], [0.5] * 8, [0], [0.5]), "9 labels"),
        ((NEGATIVE, [0.5] * 9, [0, 1], [0.5]), "one probability per slice"),
        ((NEGATIVE, [0.5] * 9, [float("nan")], [0.5]), "every slice's label"),
        ((NEGATIVE, [float("nan")] * 9, [0], [0.5]), "no NaN"),
    ],
)
def test_wrong_input_names_the_patient(exam, message):
    with pytest.raises(ValueError, match=f"patient P9: .*{message}"):
        ExamTable.build(["P9"], *([part] for part in exam))
