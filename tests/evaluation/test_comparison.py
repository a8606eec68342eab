import numpy as np
import pytest

from pe_unified.evaluation.comparison import TABLES, compare_arms
from pe_unified.evaluation.detection import DetTable, match_slice
from pe_unified.evaluation.slices import SliceTable


def run(gain: float, seed: int, patients: int = 20) -> SliceTable:
    generator = np.random.default_rng(seed)
    names = [f"P{index:02d}" for index in range(patients) for _ in range(12)]
    label = np.tile([False, False, True], 4 * patients)
    hardness = np.repeat(np.random.default_rng(99).normal(0, 0.5, patients), 12)
    score = 1 / (1 + np.exp(-(gain * (label - 0.5) + hardness + generator.normal(size=len(label)))))
    return SliceTable.build(names, label, score)


def test_difference_is_that_of_the_means_over_seeds():
    first = [(run(1.0, seed), 0.5) for seed in range(3)]
    second = [(run(3.0, 10 + seed), 0.5) for seed in range(2)]
    found = compare_arms(first, second, resamples=200)

    def mean_auc(runs):
        ones = np.ones((1, 20))
        return np.mean([table.statistic(cut)(ones)["auc"][0] for table, cut in runs])

    assert found["auc"].value == pytest.approx(mean_auc(second) - mean_auc(first))
    assert 0 < found["auc"].low < found["auc"].value < found["auc"].high
    assert set(found) == {"accuracy", "auc", "f1", "sensitivity", "specificity"}
    back = compare_arms(second, first, resamples=200)
    assert back["auc"].value == pytest.approx(-found["auc"].value)


def test_an_arm_against_itself_gains_nothing():
    arm = [(run(1.0, 0), 0.5)]
    assert all(one.value == one.low == one.high == 0 for one in compare_arms(arm, arm).values())


def test_other_patients_are_named():
    with pytest.raises(ValueError, match=r"same patients; P18, P19"):
        compare_arms([(run(1.0, 0), 0.5)], [(run(1.0, 0, patients=18), 0.5)])


def test_unlike_runs_are_refused():
    boxes = DetTable.build(["P00"], [match_slice([[0, 0, 5, 5]], [[0, 0, 5, 5]], [0.9])])
    with pytest.raises(ValueError, match="DetTable, SliceTable"):
        compare_arms([(run(1.0, 0), 0.5)], [(boxes, 0.5)])
    with pytest.raises(ValueError, match="at least one run"):
        compare_arms([], [(boxes, 0.5)])


def test_every_task_has_its_table():
    assert sorted(TABLES) == ["cls", "det", "seg"]
