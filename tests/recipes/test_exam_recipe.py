"""Slices learned, their features stored, exams learned from these, in one recipe."""

import json

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from tiny_exam_run import BACKBONE, small_exam_recipe, small_exam_settings
from tiny_exams import write_tiny_exams

from pe_unified.checkpoints import load_checkpoint_safely
from pe_unified.datasets import FeatureStore
from pe_unified.engine import ConfigError
from pe_unified.recipes import load_recipe, run_recipe
from pe_unified.registry import DATASETS, MODELS

pytestmark = pytest.mark.usefixtures("unrendered")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_exams(tmp_path_factory.mktemp("exams") / "data")


@pytest.fixture(scope="module")
def recipe(repository, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.py"
    path.write_text(small_exam_recipe(repository / "configs"))
    return path


@pytest.fixture(scope="module")
def finished(recipe, data, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("finished") / "run"
    return work_dir, run_recipe(recipe, work_dir, str(data), report=lambda _: None)


def test_features_of_all_exams_are_stored_by_the_backbone_that_was_trained(finished):
    work_dir, summary = finished
    slices, features, exams = summary["steps"]
    (reused,) = features["reused"]
    assert reused["module"] == "encoder.backbone" and reused["from"] == "s1_cls"
    assert reused["tensors"] == reused["total"]
    assert features["iterations"] == 0 and features["metrics"] == {}
    stored = list((work_dir / features["features"]).glob("*.npy"))
    assert len(stored) == 16
    assert exams["reused"] == [{"module": "features", "from": "features"}]
    assert {"exam/auc", "exam/weighted_bce", "cls/auc"} <= exams["metrics"].keys()
    # Exams have seen what the slices' network has, and what it was trained on.
    assert exams["total_slices"] == exams["iterations"] * 4 + slices["iterations"] * 4


def test_run_again_it_makes_what_is_missing_and_trains_nothing(finished, recipe, data):
    work_dir, summary = finished
    folder = work_dir / summary["steps"][1]["features"]
    (lost,), (kept,) = folder.glob("1.2.3-*.npy"), folder.glob("1.2.4-*.npy")
    before, time = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    told = []
    again = run_recipe(recipe, work_dir, str(data), report=told.append)
    assert lost.read_bytes() == before and kept.stat().st_mtime_ns == time
    assert [line for line in told if "finished before" in line and "gru" in line]
    assert again["steps"][2] == summary["steps"][2]


def test_the_summary_shows_both_kinds_of_steps(finished):
    work_dir, summary = finished
    table = (work_dir / "summary.md").read_text()
    assert "exam AUC" in table and "slice AUC" in table and "Dice" not in table
    written = json.loads((work_dir / "summary.json").read_text())["steps"]
    assert [each["metrics"] for each in written] == [each["metrics"] for each in summary["steps"]]
    assert (work_dir / "exam_auc_by_step.png").is_file()


def test_features_come_from_a_step_that_extracts(recipe, tmp_path):
    wrong = tmp_path / "wrong.py"
    text = recipe.read_text().replace('features="features"', 'features="s1_cls"')
    wrong.write_text(text)
    with pytest.raises(ConfigError, match="takes features of s1_cls, which extracts none"):
        load_recipe(wrong)


TWO_STAGES = """
_base_ = {recipe!r}
settings = {settings!r}
step_settings = dict(
    lungs=dict(max_iters=4, model=dict(backbone={backbone!r})),
    scores=dict(model=dict(encoder=dict(backbone={backbone!r}))),
    measured={exams!r},
    scored={exams!r},
)
"""


@pytest.fixture(scope="module")
def two_stages(repository, data, tmp_path_factory):
    """The recipe of the siamese system, small."""
    folder = tmp_path_factory.mktemp("two_stages")
    steps = dict(dataset=dict(steps=dict(count=3)))
    loaders = {f"{split}_dataloader": steps for split in ("train", "val", "test")}
    exams = dict(max_iters=2, model=dict(encoder=dict(backbone=BACKBONE)), **loaders)
    given = dict(
        recipe=str(repository / "configs/exam/siamese_two_stage.py"),
        settings=small_exam_settings(),
        backbone=BACKBONE,
        exams=exams,
    )
    path = folder / "recipe.py"
    path.write_text(TWO_STAGES.format(**given))
    return folder / "run", run_recipe(path, folder / "run", str(data), report=lambda _: None)


def test_a_classifier_of_lung_chooses_the_slices_of_the_second_stage(two_stages, data):
    work_dir, summary = two_stages
    lungs, scores, measured, scored = summary["steps"]
    assert {"lung/auc", "lung/auc_ci"} <= lungs["metrics"].keys()
    assert not any(key.startswith("cls/") for key in lungs["metrics"])
    assert scored["reused"] == [{"module": "lung_scores", "from": "scores"}]
    assert measured["reused"] == []
    # The scored arm rests on what the classifier has seen, too.
    assert scored["total_slices"] - measured["total_slices"] == lungs["total_slices"] == 16
    store = FeatureStore(work_dir / scores["features"])
    cfg = load_checkpoint_safely(work_dir / scored["checkpoint"])["meta"]["cfg"]
    settings = {**cfg["test_dataloader"]["dataset"], "data_root": str(data), "pipeline": []}
    with DefaultScope.overwrite_default_scope("pe_unified"):
        exams = DATASETS.build(settings)
    for number in range(len(exams)):
        exam = exams.get_data_info(number)
        stored = store.read(exam["stored"])[:, 0]
        highest = sorted(np.argsort(-stored, kind="stable")[:3])
        assert exam["step_ids"] == [f"{exam['study_uid']}.1.{place}" for place in highest]
    assert "lung AUC" in (work_dir / "summary.md").read_text()
    assert not (work_dir / "lungs/overlays.png").exists()  # which would be of emboli


def test_a_stored_score_is_what_the_classifier_says_of_the_slice(two_stages, data):
    work_dir, summary = two_stages
    lungs, scores = summary["steps"][:2]
    trained = load_checkpoint_safely(work_dir / lungs["checkpoint"])
    cfg = trained["meta"]["cfg"]
    with DefaultScope.overwrite_default_scope("pe_unified"):
        model = MODELS.build(cfg["model"]).eval()
        slices = DATASETS.build({**cfg["test_dataloader"]["dataset"], "data_root": str(data)})
    model.load_state_dict(trained["state_dict"])
    store = FeatureStore(work_dir / scores["features"])
    for study in ("1.2.12", "1.2.15"):
        own = [n for n in range(len(slices)) if slices.get_data_info(n)["study_uid"] == study]
        batch = [slices[number] for number in own]
        with torch.no_grad():
            samples = model.test_step({key: [each[key] for each in batch] for key in batch[0]})
        odds = [float(sample.pred_score[1].logit()) for sample in samples]
        (file,) = store.folder.glob(f"{study}-*.npy")
        np.testing.assert_allclose(np.load(file)[:, 0], odds, rtol=2e-3, atol=2e-3)


def test_scores_come_from_a_step_that_extracts(repository, tmp_path):
    text = (repository / "configs/exam/siamese_two_stage.py").read_text()
    text = text.replace('lung_scores="scores"', 'lung_scores="lungs"')
    folder = repository / "configs/exam"
    text = text.replace('config="', f'config="{folder}/')
    (tmp_path / "wrong.py").write_text(text)
    with pytest.raises(ConfigError, match="step scored takes features of lungs, which extracts"):
        load_recipe(tmp_path / "wrong.py")
