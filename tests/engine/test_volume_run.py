"""Volumes trained, resumed, tested, published and marked by the same machinery as slices."""

import json

import nibabel
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from tiny_volume_run import small_volume_config
from tiny_volumes import SHAPE, write_tiny_volumes

from pe_unified.checkpoints import load_checkpoint_safely
from pe_unified.cli import marks as marks_command
from pe_unified.datasets.slice_dataset import read_annotations
from pe_unified.datasets.volume_records import records_of
from pe_unified.engine import ConfigError
from pe_unified.engine.evaluate import evaluate_checkpoint
from pe_unified.engine.publish import publish
from pe_unified.engine.runner import PERunner
from pe_unified.errors import CheckpointError
from pe_unified.evaluation.marks import read_marks
from pe_unified.inference.model import load_model
from pe_unified.inference.volumes import load_volume_model, predict_study

pytestmark = pytest.mark.usefixtures("unrendered")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_volumes(tmp_path_factory.mktemp("volumes"))


@pytest.fixture(scope="module")
def trained(repository, data, tmp_path_factory):
    """A model that marks something: its output bias is raised after training."""
    work_dir = tmp_path_factory.mktemp("run")
    PERunner.from_cfg(small_volume_config(repository, data, work_dir)).train()
    path = work_dir / "iter_2.pth"
    stored = torch.load(path, weights_only=False)
    weights = stored["state_dict"]
    torch.nn.init.normal_(weights["network.embolus_head.output.weight"], std=0.5)
    weights["network.embolus_head.output.bias"].zero_()
    marking = work_dir / "marking.pth"
    torch.save(stored, marking)
    return marking


@pytest.fixture(scope="module")
def published(repository, data, trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("published") / "model.pth"
    cfg = small_volume_config(repository, data, out.parent)
    return out, publish(cfg, trained, out).validated


def test_training_validates_and_says_what_it_used(trained):
    flow = json.loads((trained.parent / "exam_flow.json").read_text())
    assert [flow[split]["kept"] for split in ("train", "val")] == [3, 2]
    stored = load_checkpoint_safely(trained)
    assert {"lesion/threshold", "artery/threshold"} <= stored["meta"]["validated"].keys()
    assert stored["meta"]["trained_on"][0]["patients"] == 3


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_weights(repository, data, trained, tmp_path):
    def run(work_dir, iterations, resume=False):
        cfg = small_volume_config(repository, data, work_dir, max_iters=2)
        cfg.resume = resume
        cfg.default_hooks.checkpoint.interval = 1
        runner = PERunner.from_cfg(cfg)
        if iterations < 2:
            runner.train_loop._max_iters = iterations
        runner.train()
        return work_dir / f"iter_{iterations}.pth"

    whole = load_checkpoint_safely(trained.parent / "iter_2.pth")["state_dict"]
    run(tmp_path, 1)
    resumed = load_checkpoint_safely(run(tmp_path, 2, resume=True))["state_dict"]
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_a_test_gives_every_metric(repository, data, trained, tmp_path):
    evaluation = evaluate_checkpoint(small_volume_config(repository, data, tmp_path), trained)
    keys = {key.removesuffix("_ci") for key in evaluation.metrics}
    assert {"lesion/sensitivity_at_1", "lesion/sensitivity_at_4_5mm", "lesion/dice"} <= keys
    assert {"lesion/mean_sensitivity", "artery/dice"} <= keys
    assert set(evaluation.tables) == {"lesion", "artery"}
    assert len(evaluation.tables["lesion"].confidence) > 0


def test_a_published_model_carries_thresholds_and_no_folders(published):
    path, validated = published
    stored = load_checkpoint_safely(path)
    assert stored["meta"]["validated"] == validated
    assert 0 < validated["lesion/threshold"] < 1
    assert "optimizer" not in stored
    text = json.dumps(stored["meta"]["cfg"])
    assert str(path.parent) not in text and "/structures" not in text


def test_a_model_of_volumes_is_none_of_slices(published):
    with pytest.raises(
        CheckpointError,
        match=r"a model of volumes, .* pe-unified marks and infer --volume-checkpoint take it",
    ):
        load_model(published[0])


def test_a_study_by_itself_is_answered_as_in_the_test(repository, data, trained, published):
    """Marks lie in the patient; the map is that of the dataset's way."""
    model = load_volume_model(published[0], device="cpu", precision="fp32")
    assert model.step_mm == 2.0 and model.threshold == published[1]["lesion/threshold"]
    _, coco = read_annotations(data / "annotations/test.json")
    (record, _), _ = records_of(coco, data)
    cfg = small_volume_config(repository, data, trained.parent)
    with DefaultScope.overwrite_default_scope("pe_unified"):
        loader = PERunner.build_dataloader(cfg.test_dataloader)
    batch = model.model.data_preprocessor(next(iter(loader)))
    with torch.inference_mode():
        (sample,) = model.model(**batch, mode="predict")
    study = record.study()
    found = predict_study(model, study, sample.grid)
    np.testing.assert_allclose(found.maps["lesion"].values, sample.pred_lesion, atol=1e-5)
    points = sample.grid.indices(sample.pred_marks.numpy()[:, :3])
    assert len(points)
    np.testing.assert_allclose(found.positions_mm, study.positions_mm(points), atol=1e-6)
    np.testing.assert_allclose(found.scores, sample.pred_marks[:, 3], atol=1e-5)
    assert found.maps["artery"].slice(3).shape == study.shape[1:]


def test_marks_of_a_split_are_written(published, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "marks"
    arguments = [str(published[0]), "--data-root", str(data), "--maps", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["pe-unified marks", *arguments, "--precision", "fp32"])
    marks_command.main()
    said = capsys.readouterr().out
    header, *lines = (out / "marks.csv").read_text().splitlines()
    assert header == "id,x,y,z,prob"
    rows = [line.split(",") for line in lines]
    assert {row[0] for row in rows} == {"PAT005", "PAT006"}
    assert f"{len(rows)} marks on 2 studies" in said
    challenge = [line.split() for line in (out / "challenge_marks.txt").read_text().splitlines()]
    assert len(challenge) == len(rows)
    in_mm, in_pixels = read_marks(out / "marks.csv"), read_marks(out / "challenge_marks.txt")
    assert in_mm.keys() == in_pixels.keys()
    for name, marks in in_mm.items():
        assert marks.unit == "lps" and in_pixels[name].unit == "pixel"
        np.testing.assert_array_equal(marks.confidences, in_pixels[name].confidences)
    _, coco = read_annotations(data / "annotations/test.json")
    studies = {each.patient_id: each.study() for each in records_of(coco, data)[0]}
    for (name, x, y, z, score), mark in zip(rows, challenge, strict=True):
        scan, col, row, number, confidence = mark
        assert scan == name and float(confidence) == pytest.approx(float(score))
        # The file counts slices from the head.
        index = SHAPE[0] - 1 - int(number)
        place = studies[name].position_mm(index, int(row), int(col))
        half = np.array([1.25, 1.5, 2.5]) / 2 + 1e-3
        assert (np.abs(np.subtract(place, [float(x), float(y), float(z)])) <= half).all()
    image = nibabel.load(out / "PAT005.nii.gz")
    assert image.shape == SHAPE[::-1] and image.get_data_dtype() == np.float32
    values = image.get_fdata()
    assert values.min() >= 0 and 0.5 < values.max() <= 1
    corner = np.diag([-1, -1, 1]) @ image.affine[:3, 3]
    np.testing.assert_allclose(corner, studies["PAT005"].position_mm(0, 0, 0), atol=1e-4)


def test_a_set_without_arteries_cannot_teach_them(repository, data, tmp_path):
    cfg = small_volume_config(repository, data, tmp_path, structures=None)
    with pytest.raises(ConfigError, match=r"no masks of arteries.*volumes/aanet3d_no_artery"):
        PERunner.from_cfg(cfg).train()


def test_arteries_alone_cannot_be_marked(repository, data, tmp_path, monkeypatch):
    cfg = small_volume_config(repository, data, tmp_path / "run", "aanet3d_artery")
    PERunner.from_cfg(cfg).train()
    arguments = [str(tmp_path / "run/iter_2.pth"), "--data-root", str(data)]
    monkeypatch.setattr("sys.argv", ["marks", *arguments, "--out", str(tmp_path / "marks")])
    with pytest.raises(SystemExit, match="finds only arteries"):
        marks_command.main()
