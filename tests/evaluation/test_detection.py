import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from weights import at_unit_weights, drawn_weights

from pe_unified.evaluation.detection import (
    DetTable,
    box_iou,
    choose_threshold,
    match_slice,
    precision_recall_points,
)


def random_split(seed: int, slices: int, most_boxes: int = 4, most_found: int = 12):
    """Per slice: reference boxes, detections near and far, distinct scores."""
    generator = np.random.default_rng(seed)
    split = []
    for _ in range(slices):
        low = generator.uniform(0, 80, (generator.integers(0, most_boxes + 1), 2))
        boxes = np.hstack([low, low + generator.uniform(3, 20, low.shape)])
        found = [boxes[generator.integers(0, len(boxes), len(boxes))]] if len(boxes) else []
        found = np.vstack([np.zeros((0, 4)), *found, boxes]) + generator.normal(
            0, generator.choice([0.3, 1.5]), (len(boxes) * 2, 4)
        )
        far = generator.uniform(0, 80, (generator.integers(0, most_found), 2))
        found = np.vstack([found, np.hstack([far, far + 8])])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        split.append((boxes, found, generator.random(len(found))))
    return split


def coco_average_precision(split) -> tuple[float, float]:
    """mAP and mAP_50 by pycocotools; -1 where there is no reference box."""
    images, annotations, results = [], [], []
    for index, (boxes, found, scores) in enumerate(split, start=1):
        images.append({"id": index})
        for x1, y1, x2, y2 in boxes.tolist():
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index,
                    category_id=1,
                    iscrowd=0,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                )
            )
        for (x1, y1, x2, y2), score in zip(found.tolist(), scores.tolist()):
            box = [x1, y1, x2 - x1, y2 - y1]
            results.append(dict(image_id=index, category_id=1, bbox=box, score=score))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dict(images=images, annotations=annotations, categories=[{"id": 1}])
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0], evaluation.stats[1]


def table_of(split, patients=None) -> DetTable:
    patients = patients or [f"P{index % 4}" for index in range(len(split))]
    return DetTable.build(patients, [match_slice(*one) for one in split])


@settings(max_examples=60)
@given(st.integers(0, 1_000_000), st.integers(1, 12))
def test_average_precision_equals_pycocotools(seed, slices):
    split = random_split(seed, slices)
    if not sum(len(found) for _, found, _ in split):
        return
    found = at_unit_weights(table_of(split))
    expected = coco_average_precision(split)
    if expected[0] == -1:
        assert np.isnan([found["mAP"], found["mAP_50"]]).all()
    else:
        assert (found["mAP"], found["mAP_50"]) == pytest.approx(expected, abs=1e-9)


def test_only_the_best_hundred_detections_of_a_slice_count_as_in_coco():
    split = random_split(3, slices=3, most_boxes=40, most_found=400)
    assert max(len(found) for _, found, _ in split) > 150
    found = at_unit_weights(table_of(split))
    assert (found["mAP"], found["mAP_50"]) == pytest.approx(coco_average_precision(split))


@pytest.mark.parametrize("seed", range(3))
def test_equal_boxes_and_equal_overlaps_as_in_coco(seed):
    generator = np.random.default_rng(seed)
    split = []
    for _ in range(6):
        low = generator.integers(0, 6, (4, 2)).astype(float)
        found = generator.integers(0, 6, (9, 2)).astype(float)
        scores = generator.permutation(9) / 10 + generator.random() / 100
        split.append((np.hstack([low, low + 6]), np.hstack([found, found + 6]), scores))
    found = at_unit_weights(table_of(split))
    assert (found["mAP"], found["mAP_50"]) == pytest.approx(coco_average_precision(split))


@pytest.mark.parametrize("seed", range(3))
def test_weights_equal_repeated_slices_in_pycocotools(seed):
    split = random_split(seed, slices=8)
    table = table_of(split)
    weights = drawn_weights(len(table.patients), 6, seed)
    weighted = table.statistic(0.5)(weights)
    for row, weight in enumerate(weights):
        again = [split[index] for index in range(8) for _ in range(int(weight[index % 4]))]
        expected = coco_average_precision(again)
        assert weighted["mAP"][row] == pytest.approx(expected[0], abs=1e-9)
        assert weighted["mAP_50"][row] == pytest.approx(expected[1], abs=1e-9)
        repeated = at_unit_weights(table_of(again, patients=["x"] * len(again)))
        for name in ("precision", "recall", "mean_iou"):
            assert weighted[name][row] == pytest.approx(repeated[name], nan_ok=True)


def test_by_hand():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]])
    found = np.array([[0, 0, 10, 8], [0, 0, 10, 9], [50, 50, 60, 60], [20, 20, 30, 30]])
    table = table_of([(boxes, found, np.array([0.9, 0.8, 0.7, 0.3]))])
    # The better box comes second: the first one has taken the embolus already.
    assert at_unit_weights(table, 0.5) == pytest.approx(
        {
            "mAP_50": (51 * 1.0 + 50 * 0.5) / 101,
            "mAP": at_unit_weights(table, 0.1)["mAP"],
            "precision": 1 / 3,
            "recall": 1 / 2,
            "mean_iou": 0.8,
        }
    )
    all_kept = at_unit_weights(table, 0.3)
    assert (all_kept["precision"], all_kept["recall"]) == (0.5, 1.0)
    assert all_kept["mean_iou"] == pytest.approx(0.9)


def test_undefined_is_not_a_number():
    nothing = np.zeros((0, 4))
    negative = at_unit_weights(table_of([(nothing, np.array([[0, 0, 5, 5]]), np.array([0.9]))]))
    assert np.isnan(list(negative.values())).all()
    missed = at_unit_weights(table_of([(np.array([[0, 0, 5, 5]]), nothing, np.zeros(0))]))
    assert (missed["mAP"], missed["mAP_50"], missed["recall"]) == (0, 0, 0)
    assert np.isnan([missed["precision"], missed["mean_iou"]]).all()


def test_perfect_boxes_are_one():
    split = [(boxes, boxes, np.full(len(boxes), 0.9)) for boxes, _, _ in random_split(0, 6)]
    assert list(at_unit_weights(table_of(split)).values()) == pytest.approx([1.0] * 5)


@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_is_better_than_the_chosen_one(seed):
    table = table_of(random_split(seed, slices=10))

    def f1(threshold):
        found = at_unit_weights(table, threshold)
        return 2 / (1 / found["precision"] + 1 / found["recall"]) if found["recall"] else 0.0

    assert f1(choose_threshold(table)) == pytest.approx(max(f1(s) for s in table.score))


def test_no_hit_chooses_no_threshold():
    far = (np.array([[0, 0, 5, 5]]), np.array([[50, 50, 60, 60]]), np.array([0.9]))
    assert choose_threshold(table_of([far])) is None


def test_precision_recall_points_by_hand():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]])
    found = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30]])
    points = precision_recall_points(table_of([(boxes, found, np.array([0.9, 0.5, 0.5]))]))
    np.testing.assert_allclose(points, [[0.5, 1.0], [1.0, 2 / 3], [0.9, 0.5]])


def test_box_iou_by_hand():
    first = np.array([[0.0, 0, 10, 10], [5, 5, 5, 5]])
    second = np.array([[5.0, 0, 15, 10], [5, 5, 5, 5]])
    np.testing.assert_allclose(box_iou(first, second), [[1 / 3, 0], [0, np.nan]])


def test_wrong_input_is_named():
    box = [[0, 0, 5, 5]]
    with pytest.raises(ValueError, match="NaN"):
        match_slice(box, box, [float("nan")])
    with pytest.raises(ValueError, match="scores"):
        match_slice(box, box, [0.5, 0.6])


def test_table_survives_the_disk(tmp_path):
    table = table_of(random_split(2, 5))
    table.save(tmp_path / "det.npz")
    assert at_unit_weights(DetTable.load(tmp_path / "det.npz")) == at_unit_weights(table)
