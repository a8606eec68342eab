"""The metrics inside mmengine: what arrives, what is returned, what is logged."""

import json
import math

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import Dataset

from pe_unified.datasets.data_sample import PEDataSample
from pe_unified.evaluation.metrics import fix_thresholds
from pe_unified.json_files import as_json
from pe_unified.registry import METRICS

KEYS = {
    "cls": ("accuracy", "auc", "f1", "sensitivity", "specificity"),
    "seg": ("dice", "iou", "dice_positive", "iou_positive", "slice_auc"),
    "det": ("mAP", "mAP_50", "precision", "recall", "mean_iou"),
}
BOX = [4.0, 6.0, 12.0, 16.0]


def answered_slice(index: int, positive: bool, good: bool = True) -> PEDataSample:
    """A slice with every label and every prediction; ``good`` predictions are perfect."""
    sample = PEDataSample(
        metainfo={"img_path": f"images/P{index % 4}/{index:04d}.png", "patient_id": f"P{index % 4}"}
    )
    mask = torch.zeros(24, 24, dtype=torch.uint8)
    boxes = torch.zeros(0, 4)
    if positive:
        mask[6:16, 4:12] = 1
        boxes = torch.tensor([BOX])
    sample.set_gt_label(positive).set_gt_sem_seg(mask).set_gt_boxes(boxes)
    score = 0.9 if positive == good else 0.2
    sample.pred_score = torch.tensor([1 - score, score])
    probability = mask[None].float() * 0.8 + 0.1
    if not good:
        probability = probability.roll(3, dims=2)
    sample.seg_prob = PixelData(data=probability)
    found = boxes if good else boxes + 20
    sample.pred_instances = InstanceData(bboxes=found, scores=torch.full((len(found),), 0.7))
    return sample


def evaluate(samples: list[PEDataSample], **options) -> dict:
    evaluator = Evaluator(
        [dict(type=f"pe_unified.{kind}Metric", **options) for kind in ("Slice", "Seg", "Det")]
    )
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


def test_keys_are_those_of_the_result_files():
    metrics = evaluate([answered_slice(index, index % 3 == 0) for index in range(12)])
    expected = {f"{task}/{key}" for task, keys in KEYS.items() for key in keys}
    intervals = {f"{key}_ci" for key in expected}
    chosen = {f"{task}/threshold" for task in KEYS} | {"cls/gate"}
    assert set(metrics) == expected | intervals | chosen
    for key in expected:
        assert metrics[key] == pytest.approx(1.0), key
        low, high = metrics[f"{key}_ci"]
        assert low == pytest.approx(1.0) and high == pytest.approx(1.0), key
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_no_slice_that_is_called_positive_is_spared():
    """The threshold may lie between the classes, and with it below the least positive slice."""
    metrics = evaluate([answered_slice(index, index % 3 == 0) for index in range(12)])
    assert 0.2 < metrics["cls/gate"] <= metrics["cls/threshold"] <= 0.9


def thin_slice(index: int, step_mm: float) -> PEDataSample:
    """Of a series in which every second positive slice is hardly seen."""
    sample = PEDataSample(metainfo={"patient_id": "A", "study_uid": "1", "series_uid": "2"})
    sample.set_metainfo({"slice_index": index, "spacing_mm": (0.7, 0.7, step_mm)})
    positive = 10 <= index < 30
    sample.set_gt_label(positive)
    score = 0.05 if not positive or index % 2 else 0.8
    sample.pred_score = torch.tensor([1 - score, score])
    return sample


def test_the_coarse_gate_is_fixed_where_slices_are_thin():
    """With the slices in any order; a test fixes none."""

    def found(step_mm: float, **options) -> dict:
        evaluator = Evaluator([dict(type="pe_unified.SliceMetric", **options)])
        evaluator.process([thin_slice(index, step_mm) for index in reversed(range(40))])
        return evaluator.evaluate(40)

    thin = found(1.0)
    assert thin["cls/coarse_gate_studies"] == 1 and thin["cls/coarse_gate_positives"] == 20
    # A faint slice that is passed over at first lies between a bright one and another.
    assert thin["cls/gate"] == pytest.approx(0.05)
    assert 0.05 < thin["cls/coarse_gate"] <= thin["cls/threshold"]
    assert thin["cls/coarse_gate_lost"] == 0
    assert not [key for key in found(2.0) if "coarse" in key]
    assert not [key for key in found(1.0, threshold=0.3) if "coarse" in key]


def test_no_intervals_without_resamples():
    metrics = evaluate([answered_slice(i, i % 2 == 0) for i in range(8)], resamples=0)
    assert not [key for key in metrics if key.endswith("_ci")]


def test_intervals_over_few_patients_are_warned_of(said):
    samples = [answered_slice(index, index % 3 == 0) for index in range(40)]
    evaluate(samples)
    assert sum("4 patients: intervals over fewer than 10" in line for line in said) == 3
    said.clear()
    for index, sample in enumerate(samples):
        sample.set_metainfo({"patient_id": f"P{index % 20}"})
    evaluate(samples)
    assert not [line for line in said if "fewer than" in line]
    for index, sample in enumerate(samples):
        sample.set_metainfo({"group": f"anatomy{index % 5}"})
    evaluate(samples)
    assert sum("20 patients in 5 groups that are independent" in line for line in said) == 3


def test_patients_of_a_group_count_as_one():
    """Here each of the four patients comes under three names."""
    samples = [answered_slice(index, index % 3 == 0, index % 5 > 0) for index in range(48)]
    alone = evaluate(samples)
    for index, sample in enumerate(samples):
        patient = sample.patient_id
        sample.set_metainfo({"patient_id": f"{patient}-{index % 3}", "group": patient})
    for key, value in evaluate(samples).items():
        assert value == pytest.approx(alone[key]), key


def test_only_slices_that_carry_the_label_count():
    known = [answered_slice(index, index % 2 == 0) for index in range(8)]
    unknown = [answered_slice(index, index % 2 == 0, good=False) for index in range(8)]
    for sample in unknown:
        for field in ("gt_label", "gt_sem_seg", "gt_instances"):
            sample.pop(field)
    mixed = [sample for pair in zip(known, unknown) for sample in pair]
    assert evaluate(mixed) == evaluate(known)


def test_padding_of_distributed_samplers_is_cut_though_labels_are_unknown():
    samples = [answered_slice(index, index % 2 == 0) for index in range(4)]
    samples[1].pop("gt_label")
    metric = METRICS.build(dict(type="SliceMetric"))
    padding = answered_slice(0, True, good=False)
    metric.process(None, [sample.to_dict() for sample in [*samples, padding]])
    assert metric.evaluate(size=4)["cls/accuracy"] == 1.0
    assert len(metric.table.label) == 3


def test_negative_split_is_undefined_not_perfect():
    metrics = as_json(evaluate([answered_slice(index, False) for index in range(8)]))
    for key in ("cls/auc", "cls/f1", "cls/sensitivity", "seg/dice", "seg/iou_positive"):
        assert metrics[key] is None, key
        assert metrics[f"{key}_ci"] == [None, None]
    for key in KEYS["det"]:
        assert metrics[f"det/{key}"] is None, key
    assert metrics["cls/specificity"] == 1.0
    assert all(metrics[f"{task}/threshold_by_default"] for task in KEYS)


def test_a_threshold_that_was_given_is_no_default():
    samples = [answered_slice(index, False) for index in range(8)]
    metrics = evaluate(samples, threshold=0.4)
    for task in KEYS:
        assert metrics[f"{task}/threshold"] == 0.4
        assert f"{task}/threshold_by_default" not in metrics


def test_no_labels_at_all_is_undefined_and_said(monkeypatch):
    said = []
    monkeypatch.setattr(
        "pe_unified.evaluation.metrics.print_log", lambda text, **kwargs: said.append(text)
    )
    sample = answered_slice(0, True)
    for field in ("gt_label", "gt_sem_seg", "gt_instances"):
        sample.pop(field)
    metrics = evaluate([sample])
    assert len(said) == 3 and all("none of 1 slices" in text for text in said)
    assert all(math.isnan(metrics[f"{task}/{key}"]) for task in KEYS for key in KEYS[task])
    assert all(metrics[f"{task}/threshold_by_default"] for task in KEYS)


@pytest.mark.parametrize("prediction", ["pred_score", "seg_prob", "pred_instances"])
def test_a_missing_prediction_names_slice_patient_and_cure(prediction):
    sample = answered_slice(3, True)
    sample.pop(prediction)
    with pytest.raises(ValueError, match=r"P3/0003.png of patient P3.*head"):
        evaluate([sample])


def test_a_missing_patient_names_the_slice():
    sample = answered_slice(3, True)
    sample.pop("patient_id")
    with pytest.raises(ValueError, match=r"0003.png.*patient_id"):
        evaluate([sample])


def test_a_binary_segmentation_is_taken_as_it_is():
    samples = [answered_slice(index, index % 2 == 0) for index in range(4)]
    for sample in samples:
        sample.pred_sem_seg = PixelData(data=(sample.seg_prob.data > 0.5).to(torch.uint8))
        sample.pop("seg_prob")
    metrics = evaluate(samples)
    assert metrics["seg/dice"] == 1.0 and metrics["seg/threshold"] == 0.5


def test_thresholds_travel_from_validation_to_test():
    validation = [answered_slice(index, index % 2 == 0) for index in range(8)]
    for sample in validation:
        positive = bool(sample.gt_label)
        sample.pred_score = torch.tensor([0.0, 0.3 if positive else 0.1])
        if positive:
            sample.pred_instances.scores = torch.tensor([0.05])
    chosen = evaluate(validation)
    assert chosen["cls/threshold"] == pytest.approx(0.2)
    assert chosen["det/threshold"] == pytest.approx(0.05)

    evaluator = Evaluator([dict(type=f"pe_unified.{kind}Metric") for kind in ("Slice", "Det")])
    applied = fix_thresholds(evaluator, chosen)
    assert applied == {key: chosen[key] for key in ("cls/threshold", "det/threshold")}
    test = [answered_slice(index, index % 2 == 0) for index in range(4)]
    test[1].pred_score = torch.tensor([0.75, 0.25])
    evaluator.process(test)
    metrics = evaluator.evaluate(4)
    assert metrics["cls/threshold"] == chosen["cls/threshold"]
    assert metrics["cls/specificity"] == 0.5
    assert metrics["cls/auc"] == 1.0
    with pytest.raises(KeyError, match="det/threshold"):
        fix_thresholds(Evaluator([dict(type="pe_unified.DetMetric")]), {"cls/threshold": 0.5})
    given = Evaluator([dict(type="pe_unified.SliceMetric", threshold=0.9)])
    assert fix_thresholds(given, chosen) == {"cls/threshold": 0.9}


@pytest.mark.parametrize(("kind", "threshold"), [("Slice", 1.5), ("Det", 0), ("Seg", 0.999)])
def test_a_threshold_that_there_is_not_is_refused(kind, threshold):
    with pytest.raises(ValueError, match="lies"):
        METRICS.build(dict(type=f"{kind}Metric", threshold=threshold))


def test_table_is_kept_for_figures():
    metric = METRICS.build(dict(type="SliceMetric"))
    assert metric.table is None
    metric.process(None, [answered_slice(i, i == 0).to_dict() for i in range(3)])
    metric.evaluate(3)
    np.testing.assert_allclose(metric.table.score, [0.9, 0.2, 0.2])


@pytest.mark.parametrize("wrong", [dict(resamples=-1), dict(level=1.0), dict(treshold=0.5)])
def test_wrong_options_are_refused(wrong):
    with pytest.raises((ValueError, TypeError)):
        METRICS.build(dict(type="SliceMetric", **wrong))


def test_as_json_is_strict():
    value = {"a": float("nan"), "b": [np.float64(1), float("inf")], "c": torch.tensor([2])}
    assert as_json(value) == {"a": None, "b": [1.0, None], "c": [2]}


class AnsweredSlices(Dataset):
    metainfo: dict = {}

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        sample = answered_slice(index, index % 3 == 0, good=index != 4)
        return {"inputs": torch.zeros(1), "data_samples": sample}


class Echo(BaseModel):
    """Answers with the predictions that the samples already carry."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples, mode):
        if mode == "loss":
            return {"cls_loss": self.weight.sum()}
        return data_samples


def test_a_runner_validates_logs_and_tests(tmp_path):
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        collate_fn=dict(type="pseudo_collate"),
    )
    evaluator = [dict(type=f"pe_unified.{kind}Metric") for kind in ("Slice", "Seg", "Det")]
    runner = Runner(
        model=Echo(),
        work_dir=str(tmp_path),
        train_dataloader=dict(dataset=AnsweredSlices(), **loader),
        train_cfg=dict(by_epoch=False, max_iters=2, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        val_dataloader=dict(dataset=AnsweredSlices(), **loader),
        val_cfg=dict(),
        val_evaluator=evaluator,
        test_dataloader=dict(dataset=AnsweredSlices(), **loader),
        test_cfg=dict(),
        test_evaluator=evaluator,
        default_hooks=dict(
            checkpoint=dict(
                type="CheckpointHook", by_epoch=False, save_best="seg/dice", rule="greater"
            )
        ),
        visualizer=dict(
            type="Visualizer",
            name="metrics_test",
            vis_backends=[dict(type="TensorboardVisBackend"), dict(type="LocalVisBackend")],
        ),
        experiment_name=f"metrics_{tmp_path.name}",
        default_scope="mmengine",
        log_level="WARNING",
        cfg=Config({}),
    )
    runner.train()
    metrics = runner.test()
    assert all(len(metrics[f"seg/{key}_ci"]) == 2 for key in KEYS["seg"])
    assert list(tmp_path.glob("best_seg_dice_*.pth"))

    (events,) = tmp_path.rglob("events.out.tfevents*")
    board = EventAccumulator(str(events)).Reload()
    assert {f"{task}/{key}" for task in KEYS for key in KEYS[task]} <= set(board.Tags()["scalars"])
    logged = [json.loads(line) for line in next(tmp_path.rglob("scalars.json")).open()]
    assert any("det/mAP" in line for line in logged)
    (tested,) = [path for path in tmp_path.rglob("2*.json") if path.parent.name != "vis_data"]
    assert json.loads(tested.read_text())["seg/dice_ci"] == metrics["seg/dice_ci"]


def test_lung_is_measured_as_embolism_is_under_its_own_name():
    samples = [answered_slice(index, index % 3 == 0, good=index != 4) for index in range(12)]
    found = {}
    for kind in ("Slice", "Lung"):
        evaluator = Evaluator([dict(type=f"pe_unified.{kind}Metric")])
        evaluator.process(samples)
        found[kind] = evaluator.evaluate(len(samples))
    gate = found["Slice"].pop("cls/gate")
    assert gate > 0
    renamed = {key.replace("cls/", "lung/"): value for key, value in found["Slice"].items()}
    assert found["Lung"] == renamed and 0.5 < renamed["lung/auc"] < 1
