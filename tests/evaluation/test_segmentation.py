import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import DiceMetric, MeanIoU
from sklearn.metrics import roc_auc_score
from torchmetrics.classification import BinaryF1Score, BinaryJaccardIndex
from weights import at_unit_weights, drawn_weights

from pe_unified.evaluation.segmentation import (
    BINS,
    SegTable,
    choose_threshold,
    probability_histogram,
    threshold_bin,
)


def random_split(seed: int, slices: int = 12, size: int = 32):
    """Probabilities and masks (slices, size, size), a third of the slices empty."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((slices, size, size), dtype=np.uint8)
    for mask in masks[slices // 3 :]:
        row, col = generator.integers(0, size - 10, 2)
        mask[row : row + generator.integers(1, 10), col : col + generator.integers(1, 10)] = 1
    noise = generator.random(masks.shape)
    return (0.75 * noise + 0.25 * masks).astype(np.float32), masks


def table_of(probabilities, masks, patients=None) -> SegTable:
    patients = patients or [f"P{index % 4}" for index in range(len(masks))]
    counts = [probability_histogram(p, m) for p, m in zip(probabilities, masks)]
    return SegTable.build(patients, counts)


@pytest.mark.parametrize("threshold", [0.5, 0.625, 201 / 256])
@pytest.mark.parametrize("seed", range(3))
def test_pooled_metrics_equal_torchmetrics(seed, threshold):
    probabilities, masks = random_split(seed)
    found = at_unit_weights(table_of(probabilities, masks), threshold)
    called = torch.from_numpy(probabilities >= threshold).int()
    truth = torch.from_numpy(masks)
    assert found["dice"] == pytest.approx(BinaryF1Score()(called, truth).item(), abs=1e-6)
    assert found["iou"] == pytest.approx(BinaryJaccardIndex()(called, truth).item(), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_per_slice_metrics_equal_monai_on_slices_with_embolus(seed):
    probabilities, masks = random_split(seed)
    found = at_unit_weights(table_of(probabilities, masks), 0.75)
    called = torch.from_numpy(probabilities >= 0.75)[:, None].float()
    truth = torch.from_numpy(masks)[:, None].float()
    dice = DiceMetric(include_background=True, ignore_empty=True)
    iou = MeanIoU(include_background=True, ignore_empty=True)
    assert found["dice_positive"] == pytest.approx(dice(called, truth).nanmean().item(), abs=1e-6)
    assert found["iou_positive"] == pytest.approx(iou(called, truth).nanmean().item(), abs=1e-6)


def test_by_hand_an_empty_slice_enters_the_pool_only():
    masks = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    probabilities = np.array([[0.9, 0.1, 0.9, 0.0], [0.9, 0.0, 0.0, 0.0], [0.9, 0.0, 0.0, 0.0]])
    found = at_unit_weights(table_of(probabilities, masks), 0.5)
    # Pooled: 2 shared, 4 called, 3 true. Slices with embolus: Dice 1/2 and 1, IoU 1/3 and 1.
    assert found == pytest.approx(
        {"dice": 4 / 7, "iou": 2 / 5, "dice_positive": 0.75, "iou_positive": 2 / 3}
        # Of two pairs with the same highest pixel, one slice has more of them, one as many.
        | {"slice_auc": 0.75}
    )
    without = at_unit_weights(table_of(probabilities[[0, 2]], masks[[0, 2]]), 0.5)
    assert without["dice_positive"] == found["dice_positive"]
    assert without["dice"] == pytest.approx(4 / 6)


@pytest.mark.parametrize("seed", range(3))
def test_slice_auc_equals_scikit_learn_on_the_highest_pixels(seed):
    probabilities, masks = random_split(seed)
    masks[::2] = 0
    probabilities[::3] *= 0.9
    found = at_unit_weights(table_of(probabilities, masks), 0.5)["slice_auc"]
    bins = np.minimum(np.floor(probabilities * BINS), BINS - 1).reshape(len(masks), -1)
    highest = bins.max(axis=1)
    score = highest + (bins == highest[:, None]).mean(axis=1) * 0.99
    truth = masks.reshape(len(masks), -1).any(axis=1)
    assert 0 < truth.sum() < len(truth)
    assert found == pytest.approx(roc_auc_score(truth, score))


def test_empty_reference_and_empty_prediction_count_as_nothing():
    masks, probabilities = np.zeros((2, 4, 4)), np.zeros((2, 4, 4))
    found = at_unit_weights(table_of(probabilities, masks), 0.5)
    assert np.isnan(list(found.values())).all()
    probabilities[0, 0, 0] = 1.0
    assert np.isnan(list(at_unit_weights(table_of(probabilities, masks), 0.5).values())).all()


def test_perfect_prediction_is_one():
    _, masks = random_split(0)
    found = at_unit_weights(table_of(masks.astype(float), masks), 0.5)
    assert list(found.values()) == [1.0] * 5


@settings(max_examples=60)
@given(st.integers(1, BINS - 1), st.lists(st.integers(0, 1 << 20), min_size=1, max_size=50))
def test_multiples_of_one_over_256_are_exact_thresholds(first, raw):
    probability = np.array(raw, dtype=np.float32) / (1 << 20)
    counts = probability_histogram(probability, np.ones_like(probability))
    assert counts[1, first:].sum() == (probability >= first / BINS).sum()
    assert counts.sum() == len(raw) and counts[0].sum() == 0


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, BINS - 1))
def test_iou_and_dice_agree_and_stay_in_range(seed, first):
    probabilities, masks = random_split(seed, slices=4, size=16)
    found = at_unit_weights(table_of(probabilities, masks), first / BINS)
    assert found["iou"] == pytest.approx(found["dice"] / (2 - found["dice"]))
    assert 0 <= found["iou"] <= found["dice"] <= 1
    assert found["iou_positive"] <= found["dice_positive"] + 1e-12


def test_weights_equal_repeated_patients():
    probabilities, masks = random_split(5)
    table = table_of(probabilities, masks)
    weights = drawn_weights(len(table.patients), 10, 0)
    weighted = table.statistic(0.7)(weights)
    for row, weight in enumerate(weights):
        again = np.repeat(np.arange(len(masks)), weight[table.patient].astype(int))
        repeated = at_unit_weights(table_of(probabilities[again], masks[again]), 0.7)
        for name, value in repeated.items():
            assert weighted[name][row] == pytest.approx(value, nan_ok=True), name


@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_is_better_than_the_chosen_one(seed):
    table = table_of(*random_split(seed))
    chosen = choose_threshold(table)
    best = max(at_unit_weights(table, k / BINS)["dice"] for k in range(1, BINS))
    assert at_unit_weights(table, chosen)["dice"] == best


def test_a_plateau_gives_the_threshold_nearest_one_half():
    masks = np.array([[1, 0]])
    assert choose_threshold(table_of(np.array([[0.9, 0.1]]), masks)) == 0.5
    assert choose_threshold(table_of(np.array([[0.25, 0.1]]), masks)) == 0.25
    assert choose_threshold(table_of(np.array([[0.25, 0.1]]), 0 * masks)) is None
    assert choose_threshold(table_of(np.array([[0.003, 0.9]]), masks)) is None


def test_given_thresholds_are_rounded_up_to_the_grid():
    assert threshold_bin(0.5) == 128
    assert threshold_bin(0.501) == 129
    for wrong in (0.0, 1.0, -0.2):
        with pytest.raises(ValueError, match="threshold"):
            threshold_bin(wrong)


def test_low_precision_probabilities_are_taken():
    probability = torch.tensor([0.5, 0.25, 1.0], dtype=torch.bfloat16)
    counts = probability_histogram(probability, torch.tensor([1, 0, 1]))
    assert counts[1, 128] == counts[1, 255] == counts[0, 64] == 1


@pytest.mark.parametrize(
    ("probability", "message"),
    [([0.5, float("nan")], "lie in"), ([0.5, 1.5], "lie in"), ([0.5], "geometry")],
)
def test_wrong_input_is_named(probability, message):
    with pytest.raises(ValueError, match=message):
        probability_histogram(np.array(probability), np.array([0, 1]))


def test_table_survives_the_disk(tmp_path):
    table = table_of(*random_split(1))
    table.save(tmp_path / "seg.npz")
    back = SegTable.load(tmp_path / "seg.npz")
    np.testing.assert_array_equal(back.counts, table.counts)
    assert back.patients == table.patients
