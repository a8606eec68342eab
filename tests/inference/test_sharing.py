"""A slice that both models look at goes through their backbone once, and the answers stay."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from studies import (
    PIPELINE,
    exam_model_config,
    study_of,
    survey_of,
    write_checkpoint,
    write_exam_checkpoint,
)

from pe_unified.engine import load_config
from pe_unified.inference.exam import load_exam_model, predict_exam
from pe_unified.inference.model import load_model
from pe_unified.inference.predictor import StudyPredictor
from pe_unified.inference.reading import SliceReader
from pe_unified.inference.sharing import key_of_levels, neighbours_of
from pe_unified.registry import MODELS, TASK_UTILS
from pe_unified.testing import tiny_model_config

SEEN = [*PIPELINE[1:4]]
EXAM_PIPELINE = [dict(type="LoadExamSlices"), *SEEN, dict(type="PackExamInputs")]
STEPS = dict(type="SliceSteps", neighbours=0, span="lungs")


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("slices") / "m.pth", ("cls",))


@pytest.fixture(scope="module")
def model(slices):
    return load_model(slices, device="cpu", precision="fp32")


def exam_config(**encoder):
    config = tiny_model_config(())
    both = dict(exam_model_config(), data_preprocessor=dict(config["data_preprocessor"]))
    both["data_preprocessor"]["type"] = "PEExamPreprocessor"
    both["encoder"] = dict(type="BackboneEncoder", backbone=config["backbone"], **encoder)
    return both


def exam_on(slices, path, config=None, steps=STEPS, pipeline=EXAM_PIPELINE, precision="fp32", **k):
    """An exam model on the backbone of a slice model."""
    write_exam_checkpoint(path, config or exam_config(), steps=steps, pipeline=pipeline, **k)
    stored, given = torch.load(path), torch.load(slices, weights_only=False)["state_dict"]
    for name in stored["state_dict"]:
        if name.startswith("encoder.backbone."):
            stored["state_dict"][name] = given[name.removeprefix("encoder.")]
    torch.save(stored, path)
    return load_exam_model(path, device="cpu", precision=precision)


def painted(slices=14, size=80):
    """A study with lungs in its inner slices; one end of them lies beyond what is searched."""
    hu = np.random.default_rng(0).normal(0, 300, (slices, size, size)).astype(np.int16)
    lungs = np.zeros(hu.shape, dtype=bool)
    lungs[2:-2, 8:-8, 8:20] = lungs[2:-2, 8:-8, -20:-8] = True
    survey = survey_of(hu.shape, lungs)
    return study_of(hu), replace(survey, box=(4, 8, 66, 60), slices=range(1, slices))


def both_ways(model, exam, batch_size=4, study_and_survey=None):
    """The answer without what the slice model has seen, and with it; and how much that was."""
    study, survey = study_and_survey or painted()
    reader = SliceReader(study)
    predictor = StudyPredictor(model, batch_size, exam_model=exam)
    known = {
        each.index: each.features
        for each in predictor.predict(reader, survey)
        if each.features is not None
    }
    alone = predict_exam(exam, reader, survey, at_once=batch_size)
    told = []
    shared = predict_exam(
        exam, reader, survey, lambda *each: told.append(each), batch_size, known=known
    )
    return alone, shared, known, told


def differences(one, other):
    values = [
        np.abs(np.subtract(list(one.probability.values()), list(other.probability.values()))),
        np.abs(np.subtract(one.step_probability, other.step_probability)),
        *(np.abs(one.attention[name] - other.attention[name]) for name in one.attention),
    ]
    assert one.slices == other.slices
    return max(each.max() for each in values)


@pytest.mark.parametrize("encoder", [{}, dict(pool="avg+max", projection=5, dropout=0.3)])
def test_the_same_batches_give_the_same_answer_bit_by_bit(model, slices, tmp_path, encoder):
    study, survey = painted()
    steps = dict(STEPS, span="all")
    exam = exam_on(slices, tmp_path / "exam.pth", exam_config(**encoder), steps)
    every = (study, replace(survey, slices=range(len(study))))
    alone, shared, known, told = both_ways(model, exam, study_and_survey=every)
    assert set(known) == set(range(len(study))) and told == []
    assert {each.shape for each in known.values()} == {(exam.model.encoder.out_channels,)}
    assert differences(alone, shared) == 0


@pytest.mark.parametrize("kind", ["SliceSteps", "LungSlices"])
def test_other_batches_differ_by_rounding(model, slices, tmp_path, kind):
    steps = STEPS if kind == "SliceSteps" else dict(type=kind, count=5)
    exam = exam_on(slices, tmp_path / "exam.pth", steps=steps)
    alone, shared, known, told = both_ways(model, exam)
    assert len(known) == 13 and told == []
    # Sums of float32 in another order; probabilities are written with four digits.
    assert differences(alone, shared) <= 1e-4


def test_slices_that_were_not_looked_at_are_encoded(model, slices, tmp_path, monkeypatch):
    exam = exam_on(slices, tmp_path / "exam.pth", steps=dict(STEPS, span="all"))
    study, survey = painted()
    encoded = []
    forward = type(exam.model.encoder).forward
    monkeypatch.setattr(
        type(exam.model.encoder), "forward", lambda *a: encoded.append(len(a[1])) or forward(*a)
    )
    few = (study, replace(survey, slices=range(3, 9)))
    alone, shared, _, told = both_ways(model, exam, study_and_survey=few)
    assert encoded == [4, 4, 4, 2, 4, 4] and told == [(10, 14), (14, 14)]
    assert differences(alone, shared) <= 1e-4


def test_in_bfloat16(slices, tmp_path):
    model = load_model(slices, device="cpu", precision="bf16")
    exam = exam_on(slices, tmp_path / "exam.pth", precision="bf16")
    alone, shared, known, _ = both_ways(model, exam, batch_size=14)
    assert len(known) == 13 and {each.dtype for each in known.values()} == {torch.bfloat16}
    assert differences(alone, shared) <= 0.1


def changed(pipeline, place, **settings):
    return [{**step, **settings} if at == place else step for at, step in enumerate(pipeline)]


def other_mean():
    config = exam_config()
    config["data_preprocessor"]["mean"] = (127.5, 127.5, 127.0)
    return config


def other_strides():
    config = exam_config()
    config["encoder"]["backbone"]["strides"] = (1, 2, 2, 1)
    return config


OTHERS = {
    "margin": dict(pipeline=changed(EXAM_PIPELINE, 1, margin_mm=12.0)),
    "size": dict(pipeline=changed(EXAM_PIPELINE, 2, size=96)),
    "windows": dict(pipeline=changed(EXAM_PIPELINE, 3, windows=["lung", "pe", "embolus"])),
    "normalisation": dict(config=other_mean()),
    "strides": dict(config=other_strides()),
    "precision": dict(precision="bf16"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_where_anything_differs_each_model_looks_for_itself(model, slices, tmp_path, what):
    exam = exam_on(slices, tmp_path / "exam.pth", **OTHERS[what])
    assert not StudyPredictor(model, exam_model=exam).shares_backbone


def test_other_weights_are_another_backbone(model, slices, tmp_path):
    path = tmp_path / "exam.pth"
    assert StudyPredictor(model, exam_model=exam_on(slices, path)).shares_backbone
    stored = torch.load(path)
    stored["state_dict"]["encoder.backbone.layer4.0.conv1.weight"][0, 0] += 1e-3
    torch.save(stored, path)
    exam = load_exam_model(path, device="cpu", precision="fp32")
    assert not StudyPredictor(model, exam_model=exam).shares_backbone


def test_neighbours_and_chunks_are_other_pictures(model, slices, tmp_path):
    beside = write_exam_checkpoint(tmp_path / "m.pth")  # one window, two neighbours
    steps = dict(type="ChunkSteps", planes=4, spacing_mm=2.0)
    chunks = write_exam_checkpoint(tmp_path / "c.pth", exam_model_config(chunks=True), steps=steps)
    for path, key in ((beside, True), (chunks, False)):
        exam = load_exam_model(path, device="cpu", precision="fp32")
        assert (exam.key is not None) == key
        assert not StudyPredictor(model, exam_model=exam).shares_backbone
    both_unknown = replace(model, key=None)
    assert not StudyPredictor(both_unknown, exam_model=exam).shares_backbone
    assert neighbours_of(TASK_UTILS.build(steps)) is None


def test_padding_is_the_slice_models_own(slices):
    config = tiny_model_config(("cls",))
    network = MODELS.build(config)
    for size, shared in ((64, True), (60, False), ([64, 96], True), ([64, 100], False)):
        seen = changed(SEEN, 1, size=size)
        assert (key_of_levels(network, config, seen, 0) is not None) == shared
    assert key_of_levels(network, config, [SEEN[0], SEEN[2]], 0) is None  # of any size


@pytest.mark.parametrize("name", ["pe_cls_r50", "pe_unified_r50"])
def test_ready_configs_share(name, repository):
    """The recipe exam/shared takes the backbone of pe_cls_r50: the rest has to be equal, too."""
    small = dict(depth=18, base_channels=4, pretrained=None)
    keys = []
    for path in (name, "exam/shared_features"):
        cfg = load_config(path)
        dataset = cfg.test_dataloader.dataset
        network = {key: cfg.model[key] for key in ("type", "data_preprocessor")}
        place = network
        if "encoder" in cfg.model:
            network |= dict(step_head=cfg.model.step_head, encoder=dict(type="BackboneEncoder"))
            place = network["encoder"]
        else:
            network["cls_head"] = dict(cfg.model.cls_head)
        own = cfg.model.get("backbone") or cfg.model.encoder.backbone
        place["backbone"] = {**own, **small}
        torch.manual_seed(0)
        model = MODELS.build(network)
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, 0.5)
        steps = TASK_UTILS.build(dataset.steps) if "steps" in dataset else None
        neighbours = dataset.neighbours if steps is None else neighbours_of(steps)
        seen = [step for step in dataset.pipeline if not step["type"].startswith("Load")]
        keys.append(key_of_levels(model, network, seen, neighbours))
    assert keys[0] == keys[1] is not None
