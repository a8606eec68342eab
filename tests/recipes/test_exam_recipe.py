"""Slices learned, their features stored, exams learned from these, in one recipe."""

import json

import pytest
from tiny_exam_run import small_exam_recipe
from tiny_exams import write_tiny_exams

from pe_unified.engine import ConfigError
from pe_unified.recipes import load_recipe, run_recipe


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
    assert exams["features_from"] == "features"
    assert {"exam/auc", "exam/weighted_bce", "cls/auc"} <= exams["metrics"].keys()
    # Exams have seen what the slices' network has, and what it was trained on.
    assert exams["total_slices"] == exams["iterations"] * 4 + slices["iterations"] * 4


def test_run_again_it_makes_what_is_missing_and_trains_nothing(finished, recipe, data):
    work_dir, summary = finished
    folder = work_dir / summary["steps"][1]["features"]
    lost, kept = folder / "1.2.3.npy", folder / "1.2.4.npy"
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
