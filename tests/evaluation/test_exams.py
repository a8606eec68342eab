import math

import numpy as np
import pytest
from calibration_error import expected_calibration_error
from sklearn.metrics import brier_score_loss, log_loss, recall_score, roc_auc_score
from weights import drawn_weights

from pe_unified.ct.exam_labels import EXAM_TARGETS
from pe_unified.evaluation.calibration import Calibration
from pe_unified.evaluation.exams import (
    EXAM_WEIGHTS,
    IMAGE_WEIGHT,
    ExamTable,
    exam_loss_parts,
    positive_probability,
)

NAN = math.nan
NEGATIVE = [1, 0, 0, 0, 0, 0, 0, 0, 0]
POSITIVE = [0, 0, 0, 0, 1, 1, 0, 1, 0]


def random_exams(seed: int, exams: int = 12):
    generator = np.random.default_rng(seed)
    labels = (generator.random((exams, 10)) < 0.4).astype(float)
    labels[:2] = [[0] * 10, [1] * 10]
    probabilities = generator.uniform(0.05, 0.95, (exams, 10))
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
def test_metrics_of_a_split_equal_the_formulas_by_scikit_learn(seed):
    patients, labels, probabilities, slices, found = random_exams(seed)
    numerator = denominator = 0.0
    for label, probability, truth, guess in zip(labels, probabilities, slices, found):
        for weight, one, p in zip(EXAM_WEIGHTS.values(), label[1:], probability[1:]):
            numerator += weight * log_loss([one], [p], labels=[0, 1])
            denominator += weight
        share = truth.mean()
        for one, p in zip(truth, guess):
            numerator += IMAGE_WEIGHT * share * log_loss([one], [p], labels=[0, 1])
        denominator += IMAGE_WEIGHT * share * len(truth)
    table = ExamTable.build(patients, labels, probabilities, slices, found)
    values = {key: value[0] for key, value in table.statistic(0.4)(np.ones((1, 5))).items()}
    assert values["weighted_bce"] == pytest.approx(numerator / denominator)
    for column, name in enumerate(EXAM_WEIGHTS, 1):
        expected = roc_auc_score(labels[:, column], probabilities[:, column])
        assert values[f"auc_{name}"] == pytest.approx(expected)
    truth, p = labels[:, 0], probabilities[:, 0]
    called = p >= 0.4
    assert values["auc"] == pytest.approx(roc_auc_score(truth, p))
    assert values["sensitivity"] == pytest.approx(recall_score(truth, called))
    assert values["specificity"] == pytest.approx(recall_score(1 - truth, ~called))
    assert values["brier"] == pytest.approx(brier_score_loss(truth, p))
    assert values["ece"] == pytest.approx(expected_calibration_error(truth, p))


def test_weights_equal_repeated_exams():
    """All but the calibration error, whose bins are those of all exams."""
    patients, *arrays = random_exams(7)
    table = ExamTable.build(patients, *arrays)
    weights = drawn_weights(5, 6, 0)
    weighted = table.statistic(0.5)(weights)
    for row, weight in enumerate(weights.astype(int)):
        again = np.repeat(np.arange(len(patients)), weight[table.patient])
        labels, probabilities, slices, found = (
            [array[index] for index in again] for array in arrays
        )
        repeated = ExamTable.build(["x"] * len(again), labels, probabilities, slices, found)
        for name, value in repeated.statistic(0.5)(np.ones((1, 1))).items():
            if name != "ece":
                assert weighted[name][row] == pytest.approx(value[0], nan_ok=True), name


def test_unknown_exam_labels_are_left_out():
    unknown = [NAN, *NEGATIVE[1:]]
    numerator, denominator = exam_loss_parts(unknown, [0.5] * 9, [0], [0.5])
    assert denominator == pytest.approx(1 - EXAM_WEIGHTS["negative_exam_for_pe"], abs=1e-9)
    assert numerator / denominator == pytest.approx(math.log(2))
    labels = np.array([[NAN, *unknown], [0, *NEGATIVE], [1, *POSITIVE]])
    table = ExamTable.build(
        list("abc"), labels, np.full((3, 10), 0.5), [np.ones(2)] * 3, [np.ones(2)] * 3
    )
    values = table.statistic(0.5)(np.ones((1, 3)))
    assert values["auc"][0] == values["auc_negative_exam_for_pe"][0] == 0.5
    assert np.isnan(values["auc_indeterminate"][0])
    assert np.isnan(table.loss_parts).all(axis=1).tolist() == [True, False, False]
    alone = ExamTable.build(
        list("bc"), labels[1:], np.full((2, 10), 0.5), [np.ones(2)] * 2, [np.ones(2)] * 2
    )
    expected = alone.statistic(0.5)(np.ones((1, 2)))["weighted_bce"][0]
    assert values["weighted_bce"][0] == pytest.approx(expected)


@pytest.mark.parametrize("missing", ["probability", "slice label", "slice labels", "slices"])
def test_the_loss_is_of_complete_exams(missing):
    _, labels, probabilities, slices, found = random_exams(0, 2)
    if missing == "probability":
        probabilities[0, 5] = NAN
    if missing == "slice label":
        slices[0][1] = NAN
    if missing == "slice labels":
        slices[0] = None
    if missing == "slices":
        found[0] = None
    table = ExamTable.build(list("ab"), labels, probabilities, slices, found)
    assert np.isnan(table.loss_parts[0]).all()
    expected = exam_loss_parts(labels[1, 1:], probabilities[1, 1:], slices[1], found[1])
    assert table.loss_parts[1] == pytest.approx(expected)
    only = ExamTable.build(["a"], labels[:1], probabilities[:1], slices[:1], found[:1])
    found = only.statistic(0.5)(np.ones((1, 1)))
    if missing == "probability":
        assert "weighted_bce" not in found, "a label that is answered for no exam"
    else:
        assert np.isnan(found["weighted_bce"])


def test_what_is_not_answered_is_not_measured():
    _, labels, probabilities, slices, found = random_exams(0, 30)
    probabilities[:, 4:] = NAN
    table = ExamTable.build([f"P{n}" for n in range(30)], labels, probabilities, slices, found)
    measured = table.statistic(0.5)(np.ones((1, 30)))
    answered = [f"auc_{name}" for name in EXAM_TARGETS[1:4]]
    assert [name for name in measured if name.startswith("auc_")] == answered
    assert "auc" in measured and "weighted_bce" not in measured
    probabilities[:, :2] = NAN  # nothing says whether the exam is positive
    table = ExamTable.build([f"P{n}" for n in range(30)], labels, probabilities, slices, found)
    assert list(table.statistic(0.5)(np.ones((1, 30)))) == answered[1:]


def test_what_negative_and_indeterminate_leave_is_positive():
    rows = [
        [0.3, 0.9, 0.2],
        [NAN, 0.6, 0.1],
        [NAN, 0.6, NAN],
        [NAN, 0.8, 0.7],
        [NAN, NAN, 0.2],
    ]
    probability = np.column_stack([rows, np.full((5, 7), 0.5)])
    np.testing.assert_allclose(positive_probability(probability), [0.3, 0.3, 0.4, 0, NAN])
    nothing = [None] * 5
    table = ExamTable.build(list("abcde"), np.eye(5, 10), probability, nothing, nothing)
    np.testing.assert_allclose(table.probability[:, 0], [0.3, 0.3, 0.4, 0, NAN])
    np.testing.assert_array_equal(table.probability[:, 1:], probability[:, 1:])
    positive = table.of("positive_exam_for_pe")
    assert positive.label.tolist() == [True, False, False, False]
    assert positive.score.tolist() == pytest.approx([0.3, 0.3, 0.4, 0])


def test_a_model_that_answers_one_thing_leaves_the_rest_undefined():
    label = np.full((4, 10), NAN)
    label[:, 0] = [0, 1, 0, 1]
    probability = np.full((4, 10), NAN)
    probability[:, 0] = [0.1, 0.9, 0.6, 0.7]
    table = ExamTable.build(list("abcd"), label, probability, [None] * 4, [None] * 4)
    values = table.statistic(0.5)(np.ones((1, 4)))
    defined = {name: value[0] for name, value in values.items() if not np.isnan(value[0])}
    assert set(defined) == {"auc", "sensitivity", "specificity", "ece", "brier"}
    assert (defined["auc"], defined["sensitivity"], defined["specificity"]) == (1, 1, 0.5)


def test_is_read_as_it_was_saved(tmp_path):
    table = ExamTable.build(*random_exams(3), calibration=Calibration(0.5, -1.0))
    table.save(tmp_path / "exam.npz")
    stored = ExamTable.load(tmp_path / "exam.npz")
    weights = np.ones((1, 5))
    assert stored.statistic(0.5)(weights) == table.statistic(0.5)(weights)


def test_a_file_from_before_the_calibration_was_stored_is_read(tmp_path):
    path = tmp_path / "exam.npz"
    ExamTable.build(*random_exams(3)).save(path)
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored if name != "calibration"}
    np.savez(path, **arrays)
    assert ExamTable.load(path).calibration.tolist() == [1, 0]
    np.savez(path, **{name: each for name, each in arrays.items() if name != "label"})
    with pytest.raises(ValueError, match="not a ExamTable"):
        ExamTable.load(path)


def test_no_key_has_loss_in_it():
    table = ExamTable.build(*random_exams(0))
    assert not [name for name in table.statistic(0.5)(np.ones((1, 5))) if "loss" in name]


@pytest.mark.parametrize(
    ("exam", "message"),
    [
        ((NEGATIVE[:8], [0.5] * 8, [0], [0.5]), "9 labels"),
        ((NEGATIVE, [0.5] * 9, [0, 1], [0.5]), "one probability per slice"),
        ((NEGATIVE, [0.5] * 9, [NAN], [0.5]), "every slice's label"),
        ((NEGATIVE, [NAN] * 9, [0], [0.5]), "no NaN"),
    ],
)
def test_the_loss_refuses_what_it_cannot_weigh(exam, message):
    with pytest.raises(ValueError, match=message):
        exam_loss_parts(*exam)


@pytest.mark.parametrize(
    ("probability", "slices", "message"),
    [
        ([0.5] * 10, ([0, 1], [0.5]), "one probability per slice"),
        ([0.5] * 10, ([0], [NAN]), "no NaN"),
        ([*[0.5] * 9, 1.5], ([0], [0.5]), "between 0 and 1"),
    ],
)
def test_wrong_input_names_the_patient(probability, slices, message):
    arrays = [[np.array(each)] for each in slices]
    with pytest.raises(ValueError, match=f"patient P9: .*{message}"):
        ExamTable.build(["P9"], [[0, *NEGATIVE]], [probability], *arrays)
