"""The tools as a user calls them."""

import json
import os
import runpy
import subprocess
import sys

import pytest

from pe_unified.inference import load_model

SMALL = [
    "pretrained=None",
    "input_size=64",
    "batch_size=4",
    "num_workers=0",
    "precision=fp32",
    "max_iters=2",
    "model.backbone.depth=18",
]


def call(repository, *words, **environment):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=repository,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    "tool",
    [
        *("train", "test", "train_steps", "demo", "doctor", "benchmark", "browse"),
        *("infer", "infer_batch", "publish", "export", "check_findings"),
    ],
)
def test_help_explains_the_tool(repository, tool, monkeypatch, capsys):
    """In this process, which has the libraries loaded already."""
    monkeypatch.syspath_prepend(str(repository / "tools"))
    monkeypatch.setattr(sys, "argv", [f"tools/{tool}.py", "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(repository / "tools" / f"{tool}.py"), run_name="__main__")
    assert not left.value.code
    told = capsys.readouterr().out
    assert "usage:" in told and len(told) > 200


def test_pseudonyms_of_a_batch_need_a_secret_that_stays(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "tools"))
    monkeypatch.delenv("PE_UNIFIED_KEY", raising=False)
    words = ["ROOT", "--checkpoint", "m.pth", "--out", "OUT", "--pseudonymise"]
    monkeypatch.setattr(sys, "argv", ["tools/infer_batch.py", *words])
    with pytest.raises(SystemExit, match="export PE_UNIFIED_KEY="):
        runpy.run_path(str(repository / "tools" / "infer_batch.py"), run_name="__main__")


def test_train_then_test_then_publish(repository, tiny_dataset, tmp_path):
    trained = call(
        repository,
        "tools/train.py",
        "configs/pe_cls_r50.py",
        *("--data-root", tiny_dataset, "--work-dir", tmp_path / "run", "--cfg-options", *SMALL),
    )
    assert trained.returncode == 0, trained.stderr[-3000:]
    tested = call(
        repository,
        "tools/test.py",
        "configs/pe_cls_r50.py",
        tmp_path / "run/iter_2.pth",
        *("--data-root", tiny_dataset, "--work-dir", tmp_path / "test", "--cfg-options"),
        *(each for each in SMALL if not each.startswith("max_iters")),
    )
    assert tested.returncode == 0, tested.stderr[-3000:]
    stored = json.loads((tmp_path / "test/metrics.json").read_text())
    low, high = stored["metrics"]["cls/auc_ci"]
    assert low <= stored["metrics"]["cls/auc"] <= high
    assert 0 <= stored["thresholds"]["cls/threshold"] <= 1
    published = call(
        repository,
        *("tools/publish.py", "configs/pe_cls_r50.py", tmp_path / "run/iter_2.pth"),
        *(tmp_path / "model.pth", "--data-root", tiny_dataset, "--work-dir", tmp_path / "publish"),
        *("--cfg-options", *(each for each in SMALL if not each.startswith("max_iters"))),
    )
    assert published.returncode == 0, published.stderr[-3000:]
    assert "cls/gate: " in published.stdout and "model.pth: " in published.stdout
    thresholds = load_model(tmp_path / "model.pth").thresholds
    assert thresholds.gate <= thresholds.slice


def test_misspelt_override_is_one_line_without_traceback(repository):
    done = call(
        repository, "tools/train.py", "configs/pe_cls_r50.py", "--cfg-options", "max_iter=3"
    )
    assert done.returncode == 1
    assert "did you mean max_iters" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_data_names_the_cure(repository, tmp_path):
    done = call(
        repository,
        "tools/train.py",
        "configs/pe_cls_r50.py",
        *("--data-root", tmp_path, "--work-dir", tmp_path / "run", "--cfg-options", *SMALL),
    )
    assert done.returncode == 1
    assert "convert a data set first" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_finds_this_environment_sound(repository):
    done = call(repository, "tools/doctor.py")
    assert done.returncode == 0, done.stdout
    assert "mmcv operators" in done.stdout and "nothing is wrong" in done.stdout
