"""What an exam model says of a study is what it says of the same exam in a converted set."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from studies import (
    EXAM_PIPELINE,
    exam_model_config,
    study_of,
    survey_of,
    write_checkpoint,
    write_exam_checkpoint,
)

from pe_unified.checkpoints import load_checkpoint_safely
from pe_unified.converters.pipeline.run import RunOptions, convert
from pe_unified.converters.raw.rsna import Rsna
from pe_unified.ct.exam_labels import EXAM_TARGETS, EXAM_WEIGHTS
from pe_unified.ct.opening import open_study
from pe_unified.datasets import PEExamDataset
from pe_unified.errors import CheckpointError
from pe_unified.evaluation.consistency import check
from pe_unified.inference.exam import load_exam_model, predict_exam, steps_of_study
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.survey import survey
from pe_unified.phantom.command import write_layout
from pe_unified.registry import MODELS


@pytest.fixture(scope="module")
def exams(tmp_path_factory):
    """A converted set of painted exams, and the raw studies by their UID."""
    root = tmp_path_factory.mktemp("rsna")
    write_layout(root / "raw", "rsna", 2, seed=3, size=64, slices=24)
    convert(Rsna(root / "raw"), root / "set", RunOptions(quiet=True, split=(0.0, 0.0, 1.0)))
    return root / "set", root / "raw" / "train"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_exam_checkpoint(tmp_path_factory.mktemp("exam") / "exam.pth")


@pytest.fixture(scope="module")
def model(checkpoint):
    return load_exam_model(checkpoint, device="cpu", precision="fp32")


def answer_of(model, folder, **settings):
    with open_study(folder) as study:
        reader = SliceReader(study)
        return predict_exam(model, reader, survey(reader, lungs_from="classical"), **settings)


KINDS = {
    "slices": {},
    "few": dict(max_steps=7),
    "most lung": dict(steps=dict(type="LungSlices", count=6)),
    "heart": dict(steps=dict(type="SliceSteps", neighbours=1, span="heart")),
    "chunks": dict(steps=dict(type="ChunkSteps", planes=4, spacing_mm=2.0)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_is_answered_as_its_converted_exam_is(exams, tmp_path, kind):
    settings = dict(KINDS[kind])
    config = exam_model_config(planes=1 if kind == "most lung" else 3, chunks=kind == "chunks")
    path = write_exam_checkpoint(tmp_path / "m.pth", config, **settings)
    steps = settings.pop("steps", dict(type="SliceSteps", neighbours=1, span="lungs"))
    with DefaultScope.overwrite_default_scope("pe_unified"):
        network = MODELS.build(config).eval()
    network.load_state_dict(load_checkpoint_safely(path)["state_dict"])
    dataset = PEExamDataset(
        "annotations/test.json", str(exams[0]), EXAM_PIPELINE, steps, test_mode=True, **settings
    )
    model = load_exam_model(path, device="cpu", precision="fp32")
    seen = []
    for item in dataset:
        with torch.no_grad():
            (golden,) = network.test_step({key: [value] for key, value in item.items()})
        found = answer_of(model, exams[1] / golden.study_uid)
        expected = golden.pred_exam.tolist()
        assert list(found.probability.values()) == pytest.approx(expected, abs=1e-4)
        assert found.step_probability == pytest.approx(golden.pred_steps.tolist(), abs=1e-4)
        assert found.z_mm == pytest.approx(golden.z_mm, abs=1e-3)
        attention = np.stack(list(found.attention.values()))
        np.testing.assert_allclose(attention, golden.attention.numpy(), atol=1e-5)
        seen.append(expected)
    assert len(seen) == 2 and np.abs(np.subtract(*seen)).max() > 0.01


NINE = tuple(EXAM_WEIGHTS)


def painted(slices=12, size=48, seed=0):
    """A study in memory with lungs in its inner slices, and its survey."""
    hu = np.random.default_rng(seed).normal(0, 300, (slices, size, size)).astype(np.int16)
    lungs = np.zeros(hu.shape, dtype=bool)
    lungs[2:-2, 8:-8, 8:20] = lungs[2:-2, 8:-8, -20:-8] = True
    return study_of(hu), replace(survey_of(hu.shape, lungs), box=(4, 4, 40, 40))


def answer(model, study_and_survey, **settings):
    study, found = study_and_survey
    return predict_exam(model, SliceReader(study), found, **settings)


def test_the_answer_does_not_depend_on_how_many_steps_go_at_once(model):
    whole, told = answer(model, painted(), at_once=100), []
    parts = answer(model, painted(), at_once=3, progress=lambda *each: told.append(each))
    assert told == [(3, 8), (6, 8), (8, 8)]
    assert list(parts.probability.values()) == pytest.approx(list(whole.probability.values()))
    assert list(parts.slices) == list(range(2, 10))
    assert parts.z_mm == [2.0 * index for index in parts.slices]


def test_no_more_steps_are_encoded_at_once_than_asked_for(model, monkeypatch):
    seen = []
    encode = type(model.model).encode

    def spy(self, inputs, mask):
        seen.append(inputs.shape[1])
        return encode(self, inputs, mask)

    monkeypatch.setattr(type(model.model), "encode", spy)
    answer(model, painted(), at_once=3)
    assert seen == [3, 3, 2]


def test_every_slice_is_read_once(model):
    study, found = painted()
    read = []
    counted = replace(study, read=lambda index: read.append(index) or study.read(index))
    predict_exam(model, SliceReader(counted), found)
    assert sorted(read) == list(range(1, 11))  # those of the lungs, and their neighbours


def test_labels_are_moved_until_they_agree_and_the_rest_stays(model):
    """Whatever an untrained model says."""
    moved = 0
    for seed in range(6):
        found = answer(model, painted(seed=seed))
        raw = [found.probability[name] for name in NINE]
        labels = [found.labels[name] for name in NINE]
        assert list(found.faults) == check(raw, found.step_probability)
        steps = np.array(found.step_probability)
        on = any(labels[NINE.index(name)] > 0.5 for name in NINE[:2])
        agreeing = np.minimum(steps, 0.5) if on else np.maximum(steps, 0.5001)
        assert check(labels, agreeing) == []
        moved += bool(found.faults)
        assert bool(found.faults) == (labels != raw)
        assert all(new == old or abs(new - 0.5) <= 1e-4 for new, old in zip(labels, raw))
    assert moved


def test_threshold_and_calibration_are_those_of_validation(model):
    study = painted()
    found = answer(model, study)
    raw = found.probability["positive_exam_for_pe"]
    assert found.positive == raw
    golden = 1 / (1 + np.exp(-(0.8 * np.log(raw / (1 - raw)) - 0.5)))
    assert found.calibrated == pytest.approx(golden, abs=6e-5)
    for threshold, called in ((raw, True), (raw + 1e-4, False), (None, None)):
        assert answer(replace(model, threshold=threshold), study).called is called


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (("rv_lv_ratio_gte_1", "rv_lv_ratio_lt_1"), False),
        (("positive_exam_for_pe",), True),
        (("negative_exam_for_pe", "indeterminate"), True),
    ],
)
def test_what_the_model_does_not_answer_stays_open(tmp_path, labels, positive):
    path = write_exam_checkpoint(tmp_path / "m.pth", exam_model_config(labels=labels))
    found = answer(load_exam_model(path, device="cpu", precision="fp32"), painted())
    assert {name for name, value in found.probability.items() if value is not None} == set(labels)
    assert set(found.attention) == set(labels)
    assert (found.positive is None, found.called is None) == (not positive, not positive)
    if "negative_exam_for_pe" in labels:
        rest = 1 - sum(found.probability[name] for name in labels)
        assert found.positive == pytest.approx(max(rest, 0), abs=1e-9)
    raw = {name: found.probability[name] for name in NINE}
    assert found.labels == raw and not found.faults
    assert "all nine labels" in found.notes[0]


def test_a_model_without_attention_or_steps(tmp_path):
    config = exam_model_config()
    config["step_head"], config["exam_head"]["pool"] = None, "mean"
    path = write_exam_checkpoint(tmp_path / "m.pth", config)
    found = answer(load_exam_model(path, device="cpu", precision="fp32"), painted())
    assert found.step_probability is None and not found.attention and found.positive is not None


def test_sides_are_the_patients(model):
    """A picture whose columns run to the patient's right shows left where others show right."""
    study, first_look = painted()
    turned = replace(study, direction=np.diag([-1.0, -1.0, 1.0]))
    found, other = (answer(model, (each, first_look)) for each in (study, turned))
    left, right = "leftsided_pe", "rightsided_pe"
    assert found.probability[left] != found.probability[right]
    assert other.probability[left] == found.probability[right]
    assert other.probability[right] == found.probability[left]
    np.testing.assert_array_equal(other.attention[left], found.attention[right])
    rest = [name for name in EXAM_TARGETS if name not in (left, right)]
    assert [other.probability[name] for name in rest] == [found.probability[n] for n in rest]


def test_without_lungs_nothing_is_answered(model):
    study, first_look = painted()
    found = answer(model, (study, replace(first_look, lungs=None, box=None)))
    assert found.reason.startswith("no lungs were found")
    assert found.called is None and set(found.labels.values()) == {None}


def test_lungs_shorter_than_a_chunk_are_filled_up_and_it_is_said(tmp_path):
    steps = dict(type="ChunkSteps", planes=20, spacing_mm=2.0)
    path = write_exam_checkpoint(tmp_path / "m.pth", exam_model_config(chunks=True), steps=steps)
    found = answer(load_exam_model(path, device="cpu", precision="fp32"), painted())
    assert len(found.slices) == 1 and found.positive is not None
    assert "shorter than one chunk" in found.notes[0]


def test_unknown_positions_are_no_hindrance(model):
    study, first_look = painted()
    found = answer(model, (replace(study, z_mm=(None,) * len(study)), first_look))
    assert found.positive is not None and set(found.z_mm) == {None}


def test_a_model_that_has_diverged_answers_nothing(checkpoint):
    broken = load_exam_model(checkpoint, device="cpu", precision="fp32")
    broken.model.exam_head.fc.bias.data[0] = torch.nan
    assert "diverged" in answer(broken, painted()).reason


def test_half_precision_says_nearly_the_same(checkpoint, model):
    half = answer(load_exam_model(checkpoint, device="cpu", precision="bf16"), painted())
    full = answer(model, painted())
    assert list(half.probability.values()) == pytest.approx(
        list(full.probability.values()), abs=0.1
    )


def test_what_a_checkpoint_says_of_itself(checkpoint, tmp_path):
    model = load_exam_model(checkpoint)
    assert not model.model.training and model.threshold == 0.4 and model.max_steps is None
    assert (model.calibration.slope, model.calibration.intercept) == (0.8, -0.5)
    assert model.lineage["training_notice"] == "not known what it was trained on"
    assert [type(each).__name__ for each in model.transforms] == [
        *("CropToLungs", "ResizeSlice", "CTWindows", "PackExamInputs")
    ]
    never = load_exam_model(write_exam_checkpoint(tmp_path / "m.pth", validated={}))
    assert never.threshold is None and never.calibration.kept
    validated = {"exam/threshold": 0.5, "exam/threshold_by_default": 1.0}
    path = write_exam_checkpoint(tmp_path / "m.pth", validated=validated)
    assert load_exam_model(path).threshold is None


def test_models_that_cannot_answer_for_a_study_are_refused(checkpoint, tmp_path):
    from pe_unified.inference.model import load_model

    slices = write_checkpoint(tmp_path / "slices.pth", ("cls",))
    with pytest.raises(CheckpointError, match=r"slices\.pth: a model of slices, .*--checkpoint"):
        load_exam_model(slices)
    with pytest.raises(CheckpointError, match=r"a model of whole exams, where .*--exam-checkpoint"):
        load_model(checkpoint)
    features = exam_model_config()
    del features["encoder"]
    loads = [dict(type="LoadStepFeatures"), dict(type="PackExamInputs")]
    path = write_exam_checkpoint(
        tmp_path / "features.pth", {**features, "in_channels": 8}, pipeline=loads
    )
    with pytest.raises(CheckpointError, match=r"stored features.*pe-unified publish puts"):
        load_exam_model(path)
    steps_only = {**exam_model_config(), "exam_head": None}
    with pytest.raises(CheckpointError, match="single steps only"):
        load_exam_model(write_exam_checkpoint(tmp_path / "steps.pth", steps_only))


@pytest.mark.parametrize("part", ["steps", "encoder", "pipeline"])
def test_a_config_cannot_build_what_is_not_registered(tmp_path, part):
    evil = {"type": "os.system", "command": f"touch {tmp_path}/pwned"}
    stored = torch.load(write_exam_checkpoint(tmp_path / "m.pth"))
    cfg = stored["meta"]["cfg"]
    if part == "encoder":
        cfg["model"]["encoder"]["backbone"]["norm_cfg"] = evil
    elif part == "steps":
        cfg["test_dataloader"]["dataset"]["steps"] = evil
    else:
        cfg["test_dataloader"]["dataset"]["pipeline"] = [*EXAM_PIPELINE, evil]
    torch.save(stored, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match=r"'os\.system', which is not a registered part"):
        load_exam_model(tmp_path / "m.pth")
    assert not (tmp_path / "pwned").exists()


def test_shares_of_lung_are_those_of_the_search_grid(model):
    """Every second slice is on the grid; between two of them the share is their mean."""
    study, first_look = painted(slices=9)
    lungs = np.zeros((5, 48, 48), dtype=bool)
    lungs[2] = True
    coarse = replace(first_look, lungs=lungs, cell=(2, 1, 1))
    steps = steps_of_study(model, SliceReader(study), coarse)
    assert [step.middle for step in steps] == [3, 4, 5]


def test_a_study_chooses_by_its_own_lung_where_training_chose_by_a_classifier(tmp_path):
    """The folder of scores need not be there, as it says nothing of a new study."""
    steps = dict(type="LungSlices", count=4)
    config = exam_model_config(planes=1)
    plain = load_exam_model(write_exam_checkpoint(tmp_path / "m.pth", config, steps=steps))
    steps = {**steps, "scores": "work_dirs/none/features-0"}
    scored = load_exam_model(write_exam_checkpoint(tmp_path / "n.pth", config, steps=steps))
    expected, found = (answer(model, painted()) for model in (plain, scored))
    assert found.slices == expected.slices and found.probability == expected.probability
    assert not any("Hounsfield" in note for note in expected.notes)
    assert [note for note in found.notes if "in training, a classifier of lung chose them" in note]
