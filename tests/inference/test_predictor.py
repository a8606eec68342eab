"""What infer computes from DICOM is what test.py computes from the converted set."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from studies import PIPELINE, VALIDATED, write_checkpoint

from pe_unified.ct.opening import open_study
from pe_unified.datasets import PESliceDataset
from pe_unified.evaluation.segmentation import threshold_bin
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey


@pytest.fixture(scope="module")
def model(predictor):
    return predictor.model


@pytest.fixture(scope="module")
def patient(painted_set):
    """A patient's raw folder, and the slices that the converter made of it."""
    dataset = PESliceDataset("annotations/test.json", str(painted_set[0]), PIPELINE, test_mode=True)
    name = dataset.patients()[0]
    rows = [k for k, each in enumerate(dataset.patients()) if each == name]
    return painted_set[1].parent / "CT_scans" / name, [dataset[k] for k in rows]


def by_the_pipeline(model, items):
    batch = {
        "inputs": [item["inputs"] for item in items],
        "data_samples": [item["data_samples"] for item in items],
    }
    with torch.no_grad():
        return model.model.test_step(batch)


def predict(model, folder, every_slice=True, **options):
    with open_study(folder) as study:
        reader = SliceReader(study)
        return StudyPredictor(model, **options).predict(reader, survey(reader, every_slice))


def test_equals_the_test_pipeline(model, patient):
    folder, items = patient
    expected = by_the_pipeline(model, items)
    found = predict(model, folder, batch_size=len(items), gate=False)
    assert [each.index for each in found] == [item["data_samples"].slice_index for item in items]
    cut = threshold_bin(VALIDATED["seg/threshold"]) / 256
    called = 0
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.probability == pytest.approx(float(theirs.pred_score[1]), abs=1e-6)
        probability = theirs.seg_prob.data.numpy().ravel()
        np.testing.assert_array_equal(ours.pixels, np.flatnonzero(probability >= cut))
        np.testing.assert_allclose(ours.pixel_probability, probability[ours.pixels], atol=1e-6)
        kept = theirs.pred_instances.scores >= VALIDATED["det/threshold"]
        np.testing.assert_allclose(ours.boxes, theirs.pred_instances.bboxes[kept], atol=1e-4)
        called += len(ours.pixels)
    assert called  # there was something to compare


def test_batches_change_nothing(model, patient):
    one, many = (predict(model, patient[0], batch_size=size) for size in (1, 5))
    for first, second in zip(one, many, strict=True):
        assert first.probability == pytest.approx(second.probability, abs=1e-6)
        np.testing.assert_array_equal(first.pixels, second.pixels)


def test_the_gate_spares_the_heads_below_it_and_nothing_else(model, patient):
    everything = predict(model, patient[0], gate=False, batch_size=5)
    middle = sorted(each.probability for each in everything)[8]  # a slice at the gate passes
    gated_model = replace(model, thresholds=replace(model.thresholds, gate=middle))
    gated = predict(gated_model, patient[0], gate=True, batch_size=5)
    assert {each.examined for each in gated} == {True, False}
    for free, held in zip(everything, gated, strict=True):
        assert held.probability == pytest.approx(free.probability, abs=1e-6)
        assert held.examined == (held.probability >= middle)
        if held.examined:
            np.testing.assert_array_equal(held.pixels, free.pixels)
            np.testing.assert_allclose(held.boxes, free.boxes, atol=1e-4)
        else:
            assert not len(held.pixels) and not len(held.boxes)


def test_without_a_gate_in_the_checkpoint_every_slice_is_examined(model, patient):
    open_model = replace(model, thresholds=replace(model.thresholds, gate=None))
    predictor = StudyPredictor(open_model)
    assert predictor.gate is None
    assert all(each.examined for each in predict(open_model, patient[0]))


@pytest.mark.parametrize("heads", [("cls",), ("seg",), ("seg", "det")])
def test_models_of_fewer_heads(tmp_path, patient, heads):
    low = {"seg/threshold": 1e-4, "det/threshold": 0.5}
    path = write_checkpoint(tmp_path / "m.pth", heads, validated=low)
    found = predict(load_model(path, precision="fp32"), patient[0])
    assert all((each.probability is None) == ("cls" not in heads) for each in found)
    assert any(len(each.pixels) for each in found) == ("seg" in heads)
    # Where nothing but classification looks, nothing was examined for pixels and boxes.
    assert all(each.examined == (heads != ("cls",)) for each in found)


def test_boxes_at_the_threshold_are_called(model, patient):
    everything = replace(model, thresholds=replace(model.thresholds, box=0.0))
    scores = np.concatenate([each.scores for each in predict(everything, patient[0])])
    middle = float(np.sort(scores)[len(scores) // 2])
    called = replace(model, thresholds=replace(model.thresholds, box=middle))
    found = np.concatenate([each.scores for each in predict(called, patient[0])])
    assert len(found) == (scores >= middle).sum() and found.min() == middle


def test_pixels_at_the_threshold_are_called(tmp_path, patient):
    path = write_checkpoint(tmp_path / "m.pth", ("seg",), validated={"seg/threshold": 0.5})
    stored = torch.load(path, weights_only=False)
    for name in ("seg_head.conv_seg.weight", "seg_head.conv_seg.bias"):
        stored["state_dict"][name].zero_()  # a probability of 0.5 everywhere
    torch.save(stored, path)
    found = predict(load_model(path, precision="fp32"), patient[0])
    assert all(len(each.pixels) and (each.pixel_probability == 0.5).all() for each in found)


def test_progress_counts_slices(model, patient):
    told = []
    with open_study(patient[0]) as study:
        reader = SliceReader(study)
        looked = survey(reader, every_slice=True)
        StudyPredictor(model, batch_size=6).predict(reader, looked, lambda *each: told.append(each))
    assert told == [(6, 16), (12, 16), (16, 16)]
