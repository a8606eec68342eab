"""The whole way, from painted DICOM to the summary, small."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_demo_runs_through_and_again_at_no_cost(repository, tmp_path):
    command = [sys.executable, "tools/demo.py", "--data", str(tmp_path / "data")]
    command += ["--work-dir", str(tmp_path / "run"), "--studies", "12", "12", "--size", "96"]
    command += ["--slices", "16", "--cfg-options", "max_iters=3", "input_size=64"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for attempt in range(2):
        done = subprocess.run(
            command, cwd=repository, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        if attempt:
            assert done.stdout.count("finished before") == 9
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert len(summary["steps"]) == 9
    assert "Synthetic" in summary["note"]
    for name in ("roc.png", "iou_by_step.png", "overlays.png", "summary.md"):
        assert (tmp_path / "run" / name).stat().st_size > 0
