"""The whole way, from painted DICOM to the summary, small."""

import json
import os
import subprocess
import sys

import pytest

from pe_unified.cli import demo_stages, exam_demo, main
from pe_unified.converters import command_line as cli

#: What a repeat of the demo looks at: what is finished there is kept by the stages themselves.
RESUMED = ["phantom", "convert", "phantom", "convert", "steps"]
ALL = [*RESUMED[:-1], "merge", "verify", "steps", "publish", "infer"]


@pytest.fixture
def stages(load_tool, monkeypatch, tmp_path):
    """Runs a small demo in this process, training left out; gives the commands that were run."""
    demo = load_tool("demo")
    words = ["demo.py", "--data", str(tmp_path / "data"), "--work-dir", str(tmp_path / "run")]
    words += ["--studies", "6", "4", "--size", "64", "--slices", "16", "--workers", "1"]
    called: list[str] = []

    def call(command):
        words = command[3:]  # after python -m pe_unified
        called.append(words[0])
        if called[-1] == "steps":
            step = {"name": "s9", "seconds": 1.0, "config": "c.py", "checkpoint": "s9/iter_1.pth"}
            if not (tmp_path / "run/s9").exists():
                (tmp_path / "run/s9").mkdir(parents=True)
                (tmp_path / "run/s9/iter_1.pth").touch()
            (tmp_path / "run/summary.json").write_text(json.dumps({"steps": [step]}))
            return 0
        if called[-1] in ("publish", "infer"):
            made = tmp_path / (
                "run/model.pth" if called[-1] == "publish" else "run/report/report.html"
            )
            made.parent.mkdir(exist_ok=True)
            made.touch()
            return 0
        monkeypatch.setattr(sys, "argv", ["pe-unified", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code

    def run():
        called.clear()
        monkeypatch.setattr(sys, "argv", words)
        demo.main()
        return list(called)

    monkeypatch.setattr(demo_stages, "run_command", call)
    monkeypatch.setattr(cli, "usable_cores", lambda: 1)
    return run


@pytest.mark.slow
def test_a_repeat_merges_verifies_and_measures_only_what_changed(stages, tmp_path):
    assert stages() == ALL
    assert stages() == RESUMED
    # Converted again, to the same bytes: nothing tells that but the time of the slices.
    os.utime(tmp_path / "data/raw/fumpe/GroundTruth/PAT001.mat", (1e9, 1e9))
    (tmp_path / "data/.pe.outdated").mkdir()  # of a run that was killed while it removed a set
    assert stages() == [*RESUMED[:-1], "merge", "verify", "steps"]
    assert not (tmp_path / "data/.pe.outdated").exists()
    # A stage that was interrupted alone.
    (tmp_path / "data/pe.verified").unlink()
    assert stages() == [*RESUMED[:-1], "verify", "steps"]
    # Another last step.
    os.utime(tmp_path / "run/s9/iter_1.pth")
    assert stages() == [*RESUMED, "publish", "infer"]
    assert stages() == RESUMED


def test_the_report_of_the_exam_demo_is_on_a_positive_exam(tmp_path):
    """An indeterminate exam is not negative, and not positive either."""
    (tmp_path / "annotations").mkdir()
    rows = [("1", 1, 0), ("2", 0, 1), ("4", 0, 0), ("3", 0, 0)]
    names = ("study_uid", "negative_exam_for_pe", "indeterminate")
    exams = [dict(zip(names, row)) for row in rows]
    file = tmp_path / "annotations/test.json"
    file.write_text(json.dumps({"exams": exams}))
    assert exam_demo._test_study(tmp_path, tmp_path / "raw") == tmp_path / "raw/train/3"
    file.write_text(json.dumps({"exams": exams[:2]}))
    assert exam_demo._test_study(tmp_path, tmp_path / "raw") == tmp_path / "raw/train/1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tool", "studies", "steps", "trained", "figures"),
    [
        ("demo", ["12", "12"], 5, 5, ["roc.png", "iou_by_step.png", "overlays.png"]),
        ("exam_demo", ["24"], 13, 10, ["exam_auc_by_step.png", "difference.png"]),
    ],
)
def test_demo_runs_through_and_again_at_no_cost(
    repository, tmp_path, tool, studies, steps, trained, figures
):
    command = [sys.executable, f"tools/{tool}.py", "--data", str(tmp_path / "data")]
    command += ["--work-dir", str(tmp_path / "run"), "--studies", *studies, "--size", "96"]
    command += ["--slices", "16", "--cfg-options", "max_iters=3", "input_size=64"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for attempt in range(2):
        done = subprocess.run(
            command, cwd=repository, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        if attempt:
            assert done.stdout.count("finished before") == trained
            assert done.stdout.count(": done before") == 4
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert len(summary["steps"]) == steps
    assert "Synthetic" in summary["note"]
    for name in (*figures, "summary.md"):
        assert (tmp_path / "run" / name).stat().st_size > 0


def test_the_time_left_follows_what_the_stages_took():
    course = demo_stages.Course((10, 30, 60))
    assert course.begin() == "stage 1 of 3, about 2 min left"
    course.end(20)
    assert course.begin() == "stage 2 of 3, about 3 min left"
    # It was done before, which says nothing of the speed.
    assert course.begin() == "stage 3 of 3, about 2 min left"
