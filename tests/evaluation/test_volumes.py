"""Emboli found in whole studies, counted by hand."""

import numpy as np
import pytest
import torch

from pe_unified.ct.volume_grid import VolumeGrid
from pe_unified.datasets.volume_records import LesionMap
from pe_unified.evaluation.volume_metric import ArteryMetric, LesionMetric
from pe_unified.evaluation.volumes import ScanMarks, VolumeTable

EMPTY = np.zeros((2, 256), np.uint32)


def scan(patient, marks, volumes):
    """``marks``: (confidence, distance to each embolus) of each."""
    confidences = np.array([confidence for confidence, _ in marks], float)
    distances = np.array([distance for _, distance in marks], float).reshape(
        len(marks), len(volumes)
    )
    return ScanMarks(patient, EMPTY, confidences, distances, np.array(volumes, float))


SCANS = [
    # Two emboli and one too small; marks: within the first, twice; on the small one; 3 mm off the
    # second; on none.
    scan(
        "a",
        [
            (0.9, [0, 40, 40]),
            (0.8, [0, 40, 40]),
            (0.95, [30, 30, 0]),
            (0.7, [50, 3, 50]),
            (0.99, [60, 60, 60]),
        ],
        [500, 300, 9.9],
    ),
    scan("b", [(0.6, [0])], [10.0]),
    scan("c", [(0.85, [])], []),
]


def test_marks_are_true_false_or_neither():
    table = VolumeTable.build(SCANS)
    inside = table.marks(0.0)
    assert inside.best.tolist() == [0.9, -np.inf, 0.6]
    # Neither the second mark on an embolus nor that on the small one; 3 mm off is false.
    assert sorted(inside.false_confidence.tolist()) == [0.7, 0.85, 0.99]
    near = table.marks(5.0)
    assert near.best.tolist() == [0.9, 0.7, 0.6]
    assert sorted(near.false_confidence.tolist()) == [0.85, 0.99]
    assert table.marks(2.0).best.tolist() == inside.best.tolist()
    assert inside.scans.tolist() == [1, 1, 1]


def test_sensitivity_at_false_positives_per_scan():
    """Three scans: 1 false positive per scan allows three."""
    found = VolumeTable.build(SCANS).statistic(0.5)(np.ones((1, 3)))
    assert found["sensitivity_at_1"] == pytest.approx(2 / 3)
    assert found["sensitivity_at_1_5mm"] == pytest.approx(1.0)
    # At .5 per scan one false mark is allowed, that of .99; the cut lies at .85.
    assert found["sensitivity_at_0.5"] == pytest.approx(1 / 3)


def test_a_smaller_limit_counts_the_small_one():
    table = VolumeTable.build(SCANS, smallest_mm3=1.0)
    assert table.marks(0.0).best.tolist() == [0.9, -np.inf, 0.95, 0.6]


def study_sample(marks, shift=(0, 0, 0)):
    """A study of 8 x 10 x 12 voxels with two lesions, seen on a grid that begins at (2, 2, 2)."""
    instances = np.zeros((3, 4, 5), np.int32)
    instances[0, 0, :4] = 1  # 4 voxels of 4 cubic mm
    instances[2, 3, 4] = 2  # 1 voxel
    step = 1.0
    grid = VolumeGrid(
        levels=np.arange(2.0, 7.5, 0.25),  # 4 mm slices
        rows=np.arange(2.0, 9.0),
        cols=np.arange(2.0, 11.0),
        step_mm=step,
        slices=(np.arange(8.0) - 2) * 4,
    )
    truth = np.zeros((1, *grid.shape), np.uint8)
    truth[0, 4, 2, 2:6] = 1
    found = np.zeros(grid.shape, np.float32)
    found[4, 2, 2:4] = 0.9
    found[9, 0, 0] = 0.6
    return {
        "patient_id": "p",
        "grid": grid,
        "gt_lesions": LesionMap(instances, (3, 4, 4), (4.0, 1.0, 1.0), False),
        "gt_lesion": torch.from_numpy(truth),
        "pred_lesion": torch.from_numpy(found),
        "pred_marks": torch.tensor(marks, dtype=torch.float64).reshape(-1, 4),
    }


def measured(samples, **options):
    metric = LesionMetric(resamples=0, **options)
    metric.process(None, samples)
    return metric, metric.evaluate(len(samples))


def test_marks_on_the_grid_meet_lesions_in_the_studys_voxels():
    # Level 4 of the grid is slice 3, row 2 row 4, column 2 column 4: the first lesion.
    metric, found = measured([study_sample([[4, 2, 2, 0.9], [20, 1, 1, 0.4]])])
    table = metric.table
    assert table.best[:, 0].tolist() == [0.9]  # the second lesion has 4 cubic mm
    assert table.nearest_mm[0] == 0 and table.nearest_mm[1] > 5
    # One voxel further along the slices, half a slice away lies the face of the voxel.
    metric, _ = measured([study_sample([[7, 2, 2, 0.9]])])
    assert metric.table.nearest_mm.tolist() == pytest.approx([0.25 * 4])
    assert found["lesion/sensitivity_at_1"] == 1.0


def test_dice_counts_what_the_grid_does_not_hold_as_missed():
    sample = study_sample([])
    _, inside = measured([sample], threshold=0.5)
    assert inside["lesion/dice"] == pytest.approx(2 * 2 / (3 + 4))
    beyond = {**sample, "gt_lesions": LesionMap(
        np.ones((1, 1, 3), np.int32), (0, 0, 0), (4.0, 1.0, 1.0), False
    )}  # fmt: skip
    _, found = measured([beyond], threshold=0.5)
    assert found["lesion/dice"] == pytest.approx(2 * 2 / (3 + 4 + 3 * 4))


def test_a_study_of_unknown_emboli_is_not_counted():
    sample = study_sample([])
    del sample["gt_lesions"]
    metric, found = measured([sample])
    assert metric.table is None and np.isnan(found["lesion/dice"])


def test_without_an_embolus_sensitivity_is_undefined_and_false_marks_count():
    sample = study_sample([[4, 2, 2, 0.9]])
    sample["gt_lesions"] = LesionMap(np.zeros((0, 0, 0), np.int32), (0, 0, 0), (4, 1, 1), False)
    sample["gt_lesion"] = torch.zeros_like(sample["gt_lesion"])
    metric, found = measured([sample])
    assert np.isnan(found["lesion/sensitivity_at_1"])
    assert metric.table.marks(5.0).false_confidence.tolist() == [0.9]


def test_a_table_comes_back_from_its_file(tmp_path):
    table = VolumeTable.build(SCANS)
    table.save(tmp_path / "lesion.npz")
    again = VolumeTable.load(tmp_path / "lesion.npz")
    weights = np.ones((1, 3))
    for name, value in table.statistic(0.5)(weights).items():
        np.testing.assert_array_equal(again.statistic(0.5)(weights)[name], value)


def test_arteries_are_measured_over_all_voxels():
    sample = study_sample([])
    truth = torch.zeros(1, 2, 2, 2)
    truth[0, 0] = 1
    found = torch.full((2, 2, 2), 0.2)
    found[0, 0] = 0.9
    metric = ArteryMetric(resamples=0, threshold=0.5)
    metric.process(None, [{**sample, "gt_artery": truth, "pred_artery": found}, sample])
    assert metric.evaluate(2)["artery/dice"] == pytest.approx(2 * 2 / (2 + 4))
