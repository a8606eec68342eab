"""What a run says of the exams that it uses: all its splits, whole files, every exam left out."""

import json

import pytest
from tiny_exam_run import small_exam_config
from tiny_exams import change, write_tiny_exams
from tiny_run import small_config

from pe_unified.engine import PERunner, exam_flow_hook
from pe_unified.engine.evaluate import evaluate_checkpoint, validate_checkpoint


@pytest.fixture
def data(tmp_path):
    """Of the exams of training one has no slices, and of one nothing is known."""
    root = write_tiny_exams(tmp_path / "data")

    def edit(content):
        content["images"] = [i for i in content["images"] if i["study_uid"] != "1.2.0"]
        labels = set(content["exams"][1]) - {"study_uid", "patient_id"}
        content["exams"][1].update(dict.fromkeys(labels))

    change(root, "train", edit)
    return root


def train(repository, data, folder):
    cfg = small_exam_config(repository, data, folder, "shared_features", max_iters=1)
    for split in ("train", "val", "test"):
        cfg[f"{split}_dataloader"].dataset.needs = ("exam",)
    PERunner.from_cfg(cfg).train()
    return cfg


def read(folder):
    return json.loads((folder / "exam_flow.json").read_text())


def test_a_training_lists_its_splits_and_a_test_adds_its_own(repository, data, tmp_path):
    run = tmp_path / "run"
    cfg = train(repository, data, run)
    first = read(run)
    assert list(first) == ["train", "val"]
    left = {each["study_uid"]: each["reason"] for each in first["train"]["left_out"]}
    assert left == {"1.2.0": "no slices", "1.2.1": "no label of the exam is known"}
    assert (first["train"]["exams"], first["train"]["kept"]) == (8, 6)
    evaluate_checkpoint(cfg, run / "iter_1.pth")
    both = read(run)
    assert list(both) == ["train", "val", "test"] and both["train"] == first["train"]
    assert (both["test"]["positive"], both["test"]["negative"]) == (2, 2)
    assert {path.name for path in run.glob("*exam_flow*")} == {"exam_flow.json", "exam_flow.png"}


def test_a_validation_by_itself_is_called_one(repository, data, tmp_path):
    cfg = train(repository, data, tmp_path / "run")
    cfg.work_dir = str(tmp_path / "elsewhere")
    validate_checkpoint(cfg, tmp_path / "run/iter_1.pth")
    assert list(read(tmp_path / "elsewhere")) == ["val"]


def test_slices_have_no_flow(repository, tiny_dataset, tmp_path):
    cfg = small_config(repository, tiny_dataset, tmp_path, "cls", max_iters=1)
    runner = PERunner.from_cfg(cfg)
    assert any(isinstance(hook, exam_flow_hook.ExamFlowHook) for hook in runner.hooks)
    runner.train()
    assert not list(tmp_path.glob("*exam_flow*"))


def test_files_are_whole_or_not_there(repository, data, tmp_path, monkeypatch):
    def fails(flows, path):
        raise OSError("No space left on device")

    monkeypatch.setattr(exam_flow_hook, "flow_figure", fails)
    with pytest.raises(OSError, match="No space"):
        train(repository, data, tmp_path / "run")
    assert list(read(tmp_path / "run")) == ["train", "val"]
    assert not list((tmp_path / "run").glob("*exam_flow.png*"))


def test_one_process_of_several_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("mmengine.dist.utils.get_rank", lambda group=None: 1)
    exam_flow_hook._write(tmp_path, {"train": None})
    assert not list(tmp_path.iterdir())
