"""The metrics of whole exams inside mmengine: what arrives, and what is returned."""

import math

import numpy as np
import pytest
import torch
from calibration_error import expected_calibration_error
from exam_samples import answered_exam, answered_slices
from mmengine.evaluator import Evaluator
from sklearn.metrics import brier_score_loss

from pe_unified.evaluation.calibration import Calibration, fit_calibration
from pe_unified.evaluation.exams import ExamTable
from pe_unified.evaluation.metrics import fix_thresholds
from pe_unified.evaluation.task_metrics import PATIENT_METRICS
from pe_unified.json_files import as_json
from pe_unified.registry import METRICS
from pe_unified.tasks import TASKS

NAN = math.nan


def evaluate(samples, *kinds, **options):
    """The metrics, and the first of the objects that gave them."""
    evaluator = Evaluator([dict(type=f"pe_unified.{kind}", **options) for kind in kinds])
    evaluator.process(samples)
    return evaluator.evaluate(len(samples)), evaluator.metrics[0]


def an_exam_split(exams=24):
    """Mostly right answers, so that no metric is at its end."""
    generator = np.random.default_rng(0)
    return [
        answered_exam(index, index % 2 == 0, float(generator.uniform(0.35, 0.9)))
        for index in range(exams)
    ]


def test_every_task_has_the_metric_that_its_row_names():
    assert [metric.__name__ for metric in PATIENT_METRICS] == [
        task.metric for task in TASKS.values()
    ]
    assert [metric.default_prefix for metric in PATIENT_METRICS] == list(TASKS)


def test_exams_give_the_keys_of_their_task_with_intervals():
    samples = an_exam_split()
    metrics, metric = evaluate(samples, "ExamMetric")
    keys = {TASKS["exam"].key(name) for name in TASKS["exam"].metrics}
    choices = ("threshold", "calibration_slope", "calibration_intercept")
    assert set(metrics) == keys | {f"{key}_ci" for key in keys} | {
        f"exam/{name}" for name in choices
    }
    assert isinstance(metric.table, ExamTable)
    low, high = metrics["exam/auc_ci"]
    assert 0.5 < low < metrics["exam/auc"] < high < 1
    # No exam of the split is chronic.
    assert math.isnan(metrics["exam/auc_chronic_pe"])
    fitted = fit_calibration(
        [sample.gt_exam[0] for sample in samples], [sample.pred_exam[0] for sample in samples]
    )
    assert Calibration.of(metrics) == fitted and not fitted.kept


def test_the_threshold_travels_and_a_test_fits_nothing():
    validated, _ = evaluate(an_exam_split(), "ExamMetric")
    evaluator = Evaluator([dict(type="pe_unified.ExamMetric")])
    assert fix_thresholds(evaluator, validated) == {"exam/threshold": validated["exam/threshold"]}
    evaluator.process(an_exam_split())
    tested = evaluator.evaluate(24)
    assert not [key for key in tested if "calibration" in key]
    assert tested["exam/sensitivity"] == validated["exam/sensitivity"]


def test_a_test_measures_the_calibration_of_the_probability_that_reports_show():
    """The threshold and the table of answers stay as they are, before calibration."""
    line = Calibration(0.5, -1.0)
    chosen = {"exam/threshold": 0.4} | {f"exam/{k}": v for k, v in line.as_floats().items()}
    slices = []
    for k in range(8):
        slices += answered_slices(f"P{k}", [k / 10] * 3, [k % 2] * 3)
    for kind, samples in (("ExamMetric", an_exam_split()), ("SlicesToExamMetric", slices)):
        raw, _ = evaluate(samples, kind, threshold=0.4)
        evaluator = Evaluator([dict(type=f"pe_unified.{kind}")])
        fix_thresholds(evaluator, chosen)
        evaluator.process(samples)
        tested = evaluator.evaluate(len(samples))
        table = evaluator.metrics[0].table
        label, score = table.of("positive_exam_for_pe").label, table.calibrated().score
        np.testing.assert_allclose(score, line.apply(table.probability[:, 0]))
        assert tested["exam/brier"] == pytest.approx(brier_score_loss(label, score))
        assert tested["exam/ece"] == pytest.approx(expected_calibration_error(label, score))
        raw, tested = as_json(raw), as_json(tested)
        changed = {key for key in raw if raw[key] != tested[key]}
        assert {key.removesuffix("_ci") for key in changed} == {"exam/brier", "exam/ece"}


def test_calibration_is_as_asked_for(said):
    metrics, _ = evaluate(an_exam_split(), "ExamMetric", calibration=False)
    assert not [key for key in metrics if "calibration" in key]
    said.clear()
    perfect = [answered_exam(index, index % 2 == 0, 0.8) for index in range(12)]
    metrics, _ = evaluate(perfect, "ExamMetric")
    assert Calibration.of(metrics).kept
    assert any("stay as they are: the classes are perfectly separated" in line for line in said)


def test_exams_of_unknown_labels_do_not_count_and_keep_their_place(said):
    samples = an_exam_split(12)
    unknown = [
        answered_exam(90, True, 0.1, gt_exam=None),
        answered_exam(91, True, 0.1, gt_exam=torch.full((10,), NAN)),
    ]
    mixed, _ = evaluate([*samples[:5], *unknown, *samples[5:]], "ExamMetric")
    alone, _ = evaluate(samples, "ExamMetric")
    assert as_json(mixed) == as_json(alone)
    assert any("12 of 14 exams carry the label" in line for line in said)
    metric = METRICS.build(dict(type="ExamMetric"))
    padding = answered_exam(0, True, 0.1)
    metric.process(None, [each.to_dict() for each in [unknown[0], *samples, padding]])
    assert as_json(metric.evaluate(size=13)) == as_json(alone)


def test_steps_may_be_missing_from_the_loss_alone():
    samples = an_exam_split(12)
    whole, _ = evaluate(samples, "ExamMetric")
    for sample in samples:
        sample.pop("pred_steps")
    without, _ = evaluate(samples, "ExamMetric")
    assert math.isnan(without["exam/weighted_bce"]) and not math.isnan(whole["exam/weighted_bce"])
    assert without["exam/auc"] == whole["exam/auc"]


def test_an_exam_split_without_labels_is_undefined_and_said(said):
    metrics, metric = evaluate([answered_exam(0, True, 0.9, gt_exam=None)], "ExamMetric")
    assert metric.table is None and math.isnan(metrics["exam/auc"])
    assert said == ["exam: none of 1 exams has the label: no metric is defined"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(pred_exam=None), "no 'pred_exam'; give the model the head"),
        (dict(pred_exam=torch.full((10,), NAN)), "diverged"),
        (dict(pred_exam=torch.rand(9)), "'pred_exam' holds 10 values"),
        (dict(gt_exam=torch.ones(10, 1)), "'gt_exam' holds 10 values"),
    ],
)
def test_what_cannot_be_measured_names_the_exam(fields, message):
    with pytest.raises(ValueError, match=rf"1\.2\.3 of patient P03: .*{message}"):
        evaluate([answered_exam(3, True, 0.9, **fields)], "ExamMetric")


def test_steps_count_as_slices_do():
    """Eight steps of two patients, one of them unknown: the same table as of seven slices."""
    first = answered_exam(0, True, 0.7, gt_steps=torch.tensor([1, NAN, 0, 0]))
    samples = [first, answered_exam(1, False, 0.6)]
    steps, metric = evaluate(samples, "StepMetric")
    slices = []
    for sample in samples:
        labels = [None if label != label else int(label) for label in sample.gt_steps]
        slices += answered_slices(sample.patient_id, sample.pred_steps.tolist(), labels)
    expected, other = evaluate(slices, "SliceMetric")
    del expected["cls/gate"]
    assert as_json(steps) == as_json(expected)
    np.testing.assert_allclose(metric.table.score, other.table.score)
    assert metric.table.patient.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_exams_without_a_known_step_do_not_count(said):
    samples = [answered_exam(index, index % 2 == 0, 0.7) for index in range(4)]
    samples[1].pop("gt_steps")
    samples[2].gt_steps = torch.full((4,), NAN)
    _, metric = evaluate(samples, "StepMetric")
    assert len(metric.table.label) == 8
    assert any("2 of 4 exams carry the label" in line for line in said)


def test_a_step_head_that_is_missing_or_short_names_the_exam():
    with pytest.raises(ValueError, match=r"1\.2\.3 of patient P03: .*pred_steps"):
        evaluate([answered_exam(3, True, 0.9, pred_steps=None)], "StepMetric")
    with pytest.raises(ValueError, match=r"P03: \(3,\) probabilities for \(4,\) steps"):
        evaluate([answered_exam(3, True, 0.9, pred_steps=torch.rand(3))], "StepMetric")


#: One slice at 0.9 alone; three at 0.6 side by side, which is 6 mm.
SPIKE, RUN = [0.0, 0.9, 0.0, 0.0, 0.0], [0.0, 0.6, 0.6, 0.6, 0.0]


@pytest.mark.parametrize(("score", "expected"), [("max", [0.9, 0.6]), ("window", [0.3, 0.6])])
def test_slices_score_their_exam(score, expected):
    samples = answered_slices("a", SPIKE, [0] * 5) + answered_slices("b", RUN, [0, 1, 1, 1, 0])
    order = np.random.default_rng(0).permutation(10)
    _, metric = evaluate([samples[i] for i in order], "SlicesToExamMetric", score=score)
    table = metric.table.of("positive_exam_for_pe")
    by_patient = dict(zip(np.array(table.patients)[table.patient], zip(table.label, table.score)))
    assert by_patient["a"] == (False, pytest.approx(expected[0]))
    assert by_patient["b"] == (True, pytest.approx(expected[1]))


def test_slices_give_what_they_can_tell_of_an_exam():
    samples = []
    for index in range(12):
        positive = index % 2
        samples += answered_slices(f"P{index}", [0.2 + 0.5 * positive] * 3, [0, positive, 0])
    metrics, _ = evaluate(samples, "SlicesToExamMetric", calibration=False)
    keys = {"auc", "sensitivity", "specificity", "ece", "brier"}
    assert set(metrics) == {f"exam/{key}{end}" for key in keys for end in ("", "_ci")} | {
        "exam/threshold"
    }
    assert metrics["exam/auc"] == 1


def test_series_of_a_study_are_scored_apart():
    """Side by side their slices would part each other's runs."""
    samples = answered_slices("a", RUN, [0, 1, 1, 1, 0], series_uid="1")
    samples += answered_slices("a", SPIKE, [0] * 5, series_uid="2")
    _, metric = evaluate(samples, "SlicesToExamMetric")
    assert metric.table.probability[:, 0] == pytest.approx([0.6])


@pytest.mark.parametrize(
    ("labels", "exam", "positive"),
    [
        ([0, 1, None], None, 1),
        ([0, 0, None], None, NAN),
        ([0, 0, 0], None, 0),
        ([0, 0, 0], {"negative_exam_for_pe": 0, "indeterminate": 1}, NAN),
        ([None] * 3, {"negative_exam_for_pe": 0, "indeterminate": 0}, 1),
        ([0, 1, 0], {"negative_exam_for_pe": None, "indeterminate": None}, 1),
    ],
)
def test_an_exam_is_what_its_labels_say_or_its_slices(labels, exam, positive):
    _, metric = evaluate(
        answered_slices("a", [0.1] * 3, labels, exam_labels=exam), "SlicesToExamMetric"
    )
    assert metric.table.label[0, 0] == pytest.approx(positive, nan_ok=True)


def test_indeterminate_exams_may_count_as_positive():
    unreadable = {"negative_exam_for_pe": 0, "indeterminate": 1}
    _, metric = evaluate(
        answered_slices("a", [0.1], [0], exam_labels=unreadable),
        "SlicesToExamMetric",
        indeterminate="positive",
    )
    assert metric.table.label[0, 0] == 1


def test_heights_that_are_unknown_or_equal_leave_slices_a_millimetre_apart():
    """Six slices are 6 mm; the three of the run are half of these."""
    scores = [0.0] * 3 + [0.8] * 3 + [0.0] * 3
    for index, sample in enumerate(samples := answered_slices("a", scores, [0] * 9)):
        sample.set_metainfo({"z_mm": None, "slice_index": index})
    _, metric = evaluate(samples, "SlicesToExamMetric")
    assert metric.table.probability[:, 0] == pytest.approx([0.4])
    samples = answered_slices("a", [0.3] * 4, [0] * 4, z_mm=7.0)
    _, metric = evaluate(samples, "SlicesToExamMetric")
    assert metric.table.probability[:, 0] == pytest.approx([0.3])


def test_a_slice_without_place_or_answer_is_named():
    (sample,) = answered_slices("a", [0.3], [0], z_mm=None)
    with pytest.raises(ValueError, match=r"study a of patient a: no 'z_mm'"):
        evaluate([sample], "SlicesToExamMetric")
    (sample,) = answered_slices("a", [NAN], [0])
    with pytest.raises(ValueError, match="diverged"):
        evaluate([sample], "SlicesToExamMetric")


def test_a_wrong_score_is_refused():
    with pytest.raises(ValueError, match="'mean'"):
        METRICS.build(dict(type="SlicesToExamMetric", score="mean"))
