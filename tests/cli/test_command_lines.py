"""The tools as a user calls them."""

import json
import sys

import pytest
import torch
from tiny_dataset import write_tiny_dataset

from pe_unified.engine.publish import Published
from pe_unified.inference.model import load_model

SMALL = [
    "pretrained=None",
    "input_size=64",
    "batch_size=4",
    "num_workers=0",
    "precision=fp32",
    "max_iters=2",
    "model.backbone.depth=18",
    "model.backbone.base_channels=8",
]


@pytest.mark.parametrize(
    "tool",
    [
        *("train", "test", "train_steps", "demo", "doctor", "benchmark", "browse", "explain"),
        *("infer", "infer_batch", "publish", "export", "evaluate", "check_findings"),
        *("finetune", "audit", "card", "reporting"),
    ],
)
def test_help_explains_the_tool(command, tool):
    told = command(tool, "--help")
    assert told.returncode == 0
    assert "usage:" in told.stdout and len(told.stdout) > 200


def test_pseudonyms_of_a_batch_need_a_secret_that_stays(command, monkeypatch, tmp_path):
    monkeypatch.delenv("PE_UNIFIED_KEY", raising=False)
    words = [tmp_path, "--checkpoint", "m.pth", "--out", "OUT", "--pseudonymise"]
    done = command("infer_batch", *words)
    assert done.returncode == 1 and "export PE_UNIFIED_KEY=" in done.stderr
    monkeypatch.setenv("PE_UNIFIED_KEY", "too short")
    for tool in ("infer", "infer_batch"):
        done = command(tool, *words)
        assert done.returncode == 1 and "has fewer than 16 characters" in done.stderr
    done = command("infer", *words[:-1])  # not asked for, not judged
    assert "m.pth: no such checkpoint" in done.stderr


def test_train_then_test_then_publish(command, tiny_dataset, tmp_path):
    places = ["--data-root", tiny_dataset, "--work-dir", tmp_path / "run"]
    trained = command("train", "configs/pe_cls_r50.py", *places, "--cfg-options", *SMALL)
    assert trained.returncode == 0, trained.stderr[-3000:]
    checkpoint = tmp_path / "run/iter_2.pth"
    settings = [each for each in SMALL if not each.startswith("max_iters")]
    places = ["--data-root", tiny_dataset, "--work-dir", tmp_path / "test"]
    tested = command(
        "test", "configs/pe_cls_r50.py", checkpoint, *places, "--cfg-options", *settings
    )
    assert tested.returncode == 0, tested.stderr[-3000:]
    stored = json.loads((tmp_path / "test/metrics.json").read_text())
    low, high = stored["metrics"]["cls/auc_ci"]
    assert low <= stored["metrics"]["cls/auc"] <= high
    assert 0 <= stored["thresholds"]["cls/threshold"] <= 1
    given = [*settings, "test_evaluator.0.threshold=0.875"]
    again = command("test", "configs/pe_cls_r50.py", checkpoint, *places, "--cfg-options", *given)
    assert again.returncode == 0, again.stderr[-3000:]
    thresholds = json.loads((tmp_path / "test/metrics.json").read_text())["thresholds"]
    assert thresholds == {"cls/threshold": 0.875}
    files = [checkpoint, tmp_path / "model.pth"]
    places = ["--data-root", tiny_dataset, "--work-dir", tmp_path / "publish"]
    published = command(
        "publish", "configs/pe_cls_r50.py", *files, *places, "--cfg-options", *settings
    )
    assert published.returncode == 0, published.stderr[-3000:]
    assert "cls/gate: " in published.stdout and "model.pth: " in published.stdout
    thresholds = load_model(tmp_path / "model.pth").thresholds
    assert thresholds.gate <= thresholds.slice


def test_one_process_publishes(command, tmp_path):
    files = [tmp_path / "iter_2.pth", tmp_path / "model.pth"]
    done = command("publish", "configs/pe_cls_r50.py", *files, "--launcher", "pytorch")
    assert done.returncode == 1 and "leave --launcher out" in done.stderr


def test_misspelt_override_is_one_line_without_traceback(command):
    done = command("train", "configs/pe_cls_r50.py", "--cfg-options", "max_iter=3")
    assert done.returncode == 1
    assert "did you mean max_iters" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["max_iters", "windows=[(lung,pe]"])
def test_overrides_that_are_none(command, option):
    done = command("train", "configs/pe_cls_r50.py", "--cfg-options", option)
    assert done.returncode == 2 and "KEY=VALUE is expected" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("tool", ["infer", "infer_batch"])
def test_counts_begin_at_one(command, tmp_path, tool):
    words = [tmp_path, "--checkpoint", "m.pth", "--out", tmp_path / "out", "--batch-size", "0"]
    done = command(tool, *words)
    assert done.returncode == 2 and "must be a whole number above 0, got 0" in done.stderr


def test_missing_data_names_the_cure(command, tmp_path):
    places = ["--data-root", tmp_path, "--work-dir", tmp_path / "run"]
    done = command("train", "configs/pe_cls_r50.py", *places, "--cfg-options", *SMALL)
    assert done.returncode == 1
    assert "convert a data set first" in done.stderr


def test_doctor_finds_this_environment_sound(command):
    done = command("doctor")
    assert done.returncode == 0, done.stdout
    assert "mmcv operators" in done.stdout and "nothing is wrong" in done.stdout


def test_ctrl_c_says_how_to_go_on(command, tiny_dataset, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pe_unified.engine.PERunner.from_cfg", interrupted)
    words = ["--data-root", tiny_dataset, "--work-dir", tmp_path / "run"]
    done = command("train", "configs/pe_cls_r50.py", *words)
    assert done.returncode == 130 and done.stderr.startswith("stopped; --resume continues")
    done = command("train_steps", "configs/demo/steps.py", *words)
    assert done.returncode == 130 and done.stderr.startswith("stopped; run the same command again")


@pytest.mark.parametrize("part", ["pipeline", "steps"])
def test_a_strangers_checkpoint_runs_no_command(command, tmp_path, part):
    evil = {"type": "os.system", "command": f"touch {tmp_path}/pwned"}
    dataset = {"pipeline": [], "steps": {"type": "SliceSteps"}}
    dataset[part] = [evil] if part == "pipeline" else evil
    model = {"type": "PEExam", "in_channels": 8, "step_head": {"type": "StepHead"}}
    cfg = {"model": model, "test_dataloader": {"dataset": dataset}}
    torch.save({"meta": {"cfg": cfg}, "state_dict": {}}, tmp_path / "evil.pth")
    done = command("test", "exam/semi_weak", tmp_path / "evil.pth", "--data-root", tmp_path)
    assert done.returncode == 1 and "builds 'os.system', which is not a registered" in done.stderr
    assert not (tmp_path / "pwned").exists()


def test_publish_tells_thresholds_by_default(command, tmp_path, monkeypatch):
    def published(cfg, checkpoint, out, fuse, test):
        out.write_bytes(b"weights")
        chosen = {"cls/threshold": 0.4, "seg/threshold": 0.5, "seg/threshold_by_default": 1.0}
        return Published(chosen)

    monkeypatch.setattr("pe_unified.engine.publish.publish", published)
    torch.save({"state_dict": {}}, tmp_path / "iter_1.pth")
    done = command("publish", "pe_cls_seg_r50", tmp_path / "iter_1.pth", tmp_path / "m.pth")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["cls/threshold: 0.4000", "seg/threshold: 0.5000 by default, not chosen"]


@pytest.mark.parametrize("meta", [None, {}, {"cfg": "model = dict(type='ResNet')"}])
def test_weights_of_other_programs_cannot_be_published(command, tmp_path, meta):
    """mmengine's own checkpoints hold their config as text."""
    stored = {"state_dict": {}} if meta is None else {"state_dict": {}, "meta": meta}
    torch.save(stored, tmp_path / "w.pth")
    done = command("publish", "pe_cls_r50", tmp_path / "w.pth", tmp_path / "m.pth")
    assert done.returncode == 1 and "holds only weights" in done.stderr


@pytest.mark.parametrize("kind", ["os.system", "monai.losses.PerceptualLoss"])
@pytest.mark.parametrize("tool", ["test", "publish"])
def test_a_strangers_checkpoint_builds_no_other_parts(command, tmp_path, tool, kind):
    head = {"type": "PEClsHead", "evidence": {"type": kind}}
    meta = {"cfg": {"model": {"type": "PEUnified", "cls_head": head}}}
    torch.save({"state_dict": {}, "meta": meta}, tmp_path / "w.pth")
    out = [tmp_path / "m.pth"] if tool == "publish" else []
    done = command(tool, "pe_cls_r50", tmp_path / "w.pth", *out)
    assert done.returncode == 1 and f"'{kind}', which is not a registered" in done.stderr


def test_a_step_is_told_when_it_begins(load_tool, tmp_path, monkeypatch):
    """Also to a file or a pipe, which Python would serve in blocks."""
    tool = load_tool("train_steps")
    with open(tmp_path / "log", "w") as log:
        monkeypatch.setattr(sys, "stdout", log)
        tool._say("s1_cls: 200 iterations")
        assert (tmp_path / "log").read_text() == "s1_cls: 200 iterations\n"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_slice_ends_training_with_one_line(command, tmp_path, workers):
    root = write_tiny_dataset(tmp_path / "set")
    for path in sorted((root / "images").rglob("*.png")):
        path.write_bytes(path.read_bytes()[:40])
    words = ["--data-root", root, "--work-dir", tmp_path / "run", "--cfg-options", *SMALL]
    done = command("train", "configs/pe_cls_r50.py", *words, f"num_workers={workers}")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: patient PAT") and "convert the patient again" in line


def test_what_is_not_there_is_the_first_line(command, tiny_dataset, tmp_path):
    none, config = tmp_path / "none", "configs/pe_cls_r50.py"
    run = ["--work-dir", tmp_path / "run", "--data-root"]
    for words in (
        ("train", config, *run, none),
        ("train", config, *run, tiny_dataset, "--reuse", f"backbone={none}"),
        ("test", config, none, *run, tiny_dataset),
        ("publish", config, none, tmp_path / "m.pth", *run, tiny_dataset),
        ("export", none, "--backend", "onnx"),
        ("browse", config, "--data-root", none, "--out", tmp_path / "page"),
        ("threshold_baseline", none, "--truth", none),
        ("check_findings", "--anatomy", none),
        ("phantom_figure", "sizes", tmp_path / "a.png", "--anatomy", none),
    ):
        done = command(*words)
        assert done.returncode and str(none) in done.stderr.partition("\n")[0], words
    assert not (tmp_path / "run").exists()


def test_a_page_does_not_land_in_its_data(command, tiny_dataset):
    done = command(
        "browse", "configs/pe_cls_r50.py", "--data-root", tiny_dataset, "--out", tiny_dataset / "x"
    )
    assert done.returncode == 1 and "which is read: the next run" in done.stderr
