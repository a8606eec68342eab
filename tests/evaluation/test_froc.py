import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from weights import at_unit_weights, drawn_weights

from pe_unified.evaluation.froc import LesionTable, mark_distances
from pe_unified.evaluation.intervals import estimate


def test_distances_by_hand():
    volume = np.zeros((4, 8, 8), dtype=np.int16)
    volume[1, 2, 2] = 7
    volume[3, 6:8, 6:8] = 3
    marks = [(1, 2, 2), (1.4, 2.4, 1.6), (1, 2, 4), (3, 2, 2), (0, 6, 2)]
    distances = mark_distances(marks, volume, spacing_mm=(2.0, 1.0, 0.5))
    # Columns by rising integer: embolus 3, then 7. Faces lie half a voxel before the centre.
    np.testing.assert_allclose(
        distances[:, 1], [0, 0, 1.5 * 0.5, 1.5 * 2.0, np.hypot(0.5 * 2.0, 3.5 * 1.0)]
    )
    assert distances[3, 0] == pytest.approx(np.hypot(3.5 * 1.0, 3.5 * 0.5))


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_distances_agree_with_a_distance_transform_to_half_a_voxel(seed):
    generator = np.random.default_rng(seed)
    volume = np.zeros((5, 9, 9), dtype=int)
    row, col = generator.integers(0, 7, 2)
    volume[generator.integers(0, 5), row : row + 2, col : col + 2] = 1
    spacing = generator.uniform(0.5, 2, 3)
    marks = np.stack([generator.integers(0, size, 6) for size in volume.shape], axis=1)
    found = mark_distances(marks, volume, spacing)[:, 0]
    centres = distance_transform_edt(volume == 0, sampling=spacing)[tuple(marks.T)]
    assert ((found == 0) <= (centres <= np.linalg.norm(spacing))).all()
    assert (found <= centres + 1e-9).all()
    assert (centres - found <= np.linalg.norm(spacing / 2) + 1e-9).all()


def two_scans(epsilon_mm: float) -> LesionTable:
    """Scan a: two emboli, four marks; scan b: no embolus, two marks."""
    distances_a = np.array([[0.0, 30.0], [1.5, 30.0], [30.0, 4.0], [30.0, 30.0]])
    return LesionTable.build(
        ["a", "b"],
        [np.array([0.9, 0.8, 0.6, 0.7]), np.array([0.65, 0.1])],
        [distances_a, np.zeros((2, 0))],
        epsilon_mm,
    )


def test_froc_by_hand():
    """The mark of 0.8 lies on an embolus that is found: neither hit nor false."""
    cuts = [0.9, 0.7, 0.65, 0.6, 0.1]
    points = [two_scans(5.0).above(cut).totals()(np.ones((1, 2))) for cut in cuts]
    false = [float(each["false_positives_per_scan"][0]) for each in points]
    np.testing.assert_allclose(false, [0, 0.5, 1.0, 1.0, 1.5])
    recall = [float(each["recall"][0]) for each in points]
    np.testing.assert_allclose(recall, [0.5, 0.5, 0.5, 1.0, 1.0])
    assert at_unit_weights(two_scans(5.0), [0, 0.5, 1.0]) == pytest.approx(
        {
            "sensitivity_at_0": 0.5,
            "sensitivity_at_0.5": 0.5,
            "sensitivity_at_1": 1.0,
            "mean_sensitivity": 2 / 3,
        }
    )


def test_marks_on_emboli_that_are_not_counted_are_neither_true_nor_false():
    """The first embolus is too small; a mark near both finds the second."""
    distances = np.array([[1.0, 9.0], [2.0, 2.0], [9.0, 9.0]])
    confidences = np.array([0.9, 0.8, 0.7])
    table = LesionTable.build(["a"], [confidences], [distances], 3.0, [np.array([False, True])])
    assert table.best.tolist() == [0.8] and table.false_confidence.tolist() == [0.7]
    totals = {name: float(v[0]) for name, v in table.totals()(np.ones((1, 1))).items()}
    assert totals == pytest.approx(
        {"recall": 1, "precision": 0.5, "f1": 2 / 3, "false_positives_per_scan": 1}
    )


def test_epsilon_decides_what_is_found():
    for epsilon, at_one, false in ((0.0, 0.5, 5), (2.0, 0.5, 4), (5.0, 1.0, 3)):
        table = two_scans(epsilon)
        assert len(table.false_confidence) == false
        assert at_unit_weights(table, [8])["sensitivity_at_8"] == at_one


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_curve_rises_and_weights_equal_repeated_scans(seed):
    generator = np.random.default_rng(seed)
    patients = ["a", "b", "c", "d"]
    marks = [int(generator.integers(0, 6)) for _ in patients]
    confidences = [generator.random(count) for count in marks]
    distances = [generator.uniform(0, 10, (count, generator.integers(0, 3))) for count in marks]
    table = LesionTable.build(patients, confidences, distances, 5.0)
    rates = (0.25, 0.5, 1, 2, 4)
    at_rates = table.statistic(rates)(np.ones((1, 4)))
    sensitivity = [at_rates[f"sensitivity_at_{rate:g}"][0] for rate in rates]
    assert np.isnan(sensitivity).all() or (np.diff(sensitivity) >= 0).all()
    weights = drawn_weights(4, 8, seed)
    weighted = table.statistic((0.25, 1, 4))(weights)
    for row, weight in enumerate(weights.astype(int)):
        again = np.repeat(np.arange(4), weight)
        repeated = LesionTable.build(
            ["x"] * 4, [confidences[i] for i in again], [distances[i] for i in again], 5.0
        )
        for name, value in at_unit_weights(repeated, (0.25, 1, 4)).items():
            assert weighted[name][row] == pytest.approx(value, nan_ok=True)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_the_best_f1_is_that_of_every_cut_tried(seed):
    generator = np.random.default_rng(seed)
    confidences = [generator.integers(0, 6, 8) / 5 for _ in range(3)]
    distances = [np.where(generator.random((8, 2)) < 0.3, 0.0, 9.0) for _ in range(3)]
    table = LesionTable.build(["a", "b", "c"], confidences, distances, 1.0)

    def f1(cut):
        found = false = 0
        for confidence, near in zip(confidences, distances, strict=True):
            marks = near[confidence >= cut] == 0
            found += marks.any(axis=0).sum()
            false += (~marks.any(axis=1)).sum()
        return 2 * found / (found + false + 6)

    best = table.best_f1_threshold()
    if best is None:
        assert f1(-1) == 0
        return
    assert f1(best) == pytest.approx(max(f1(cut / 5) for cut in range(6)))
    values = table.statistic(threshold=best)(np.ones((1, 3)))
    assert values["f1"][0] == pytest.approx(f1(best))
    assert table.above(best).statistic([1])(np.ones((1, 3))).keys() >= {"sensitivity_at_1"}


def test_no_marks_and_no_emboli():
    silent = LesionTable.build(["a"], [np.zeros(0)], [np.zeros((0, 2))], 5.0)
    assert at_unit_weights(silent, [1])["sensitivity_at_1"] == 0
    healthy = LesionTable.build(["a"], [np.array([0.5])], [np.zeros((1, 0))], 5.0)
    assert np.isnan(at_unit_weights(healthy, [1])["sensitivity_at_1"])


def test_intervals_are_those_of_every_metric():
    found = estimate(two_scans(5.0).statistic([1]), 2, resamples=200)
    assert found["sensitivity_at_1"].value == 1.0


def test_marks_and_confidences_must_pair():
    with pytest.raises(ValueError, match="patient a: 2 confidences for 1 marks"):
        LesionTable.build(["a"], [np.zeros(2)], [np.zeros((1, 1))], 5.0)
