"""The same command on a cluster: a real scheduler and two workers on loopback."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from raw_sets import tree, write_fumpe_patient

from data_converters.core import pool
from data_converters.core.run import RunOptions, convert
from data_converters.fumpe_to_coco import Fumpe

pytest.importorskip("distributed", reason="Dask is not installed")
SCRIPT = Path(__file__).resolve().parents[2] / "data_converters" / "fumpe_to_coco.py"


@pytest.fixture
def cluster(tmp_path):
    """Address of a scheduler with two workers, all processes of their own."""
    file = tmp_path / "scheduler.json"
    python = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    local = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    environment = {**os.environ, "DASK_DISTRIBUTED__ADMIN__LOG_FORMAT": "%(message)s"}
    processes = [_start([*python, *local], environment)]
    python = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file)]
    local = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
    for k in range(2):
        folder = ["--local-directory", str(tmp_path / f"worker{k}")]
        processes.append(_start([*python, *local, *folder], environment))
    try:
        yield _address(file)
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def _start(command, environment):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, **quiet)


def _address(file):
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            return json.loads(file.read_text())["address"]
        except (OSError, ValueError):
            time.sleep(0.1)
    raise TimeoutError("the scheduler did not start")


def test_the_cluster_gives_the_same_bytes(tmp_path, cluster):
    raw = tmp_path / "raw"
    for k in range(1, 5):
        write_fumpe_patient(raw, f"PAT{k:03d}", size=64, count=30, reversed_z=k == 2)
    (raw / "GroundTruth" / "PAT004.mat").unlink()
    command = [sys.executable, str(SCRIPT), str(raw), "--quiet"]
    there = subprocess.run(
        [*command, str(tmp_path / "there"), "--scheduler", cluster], capture_output=True, text=True
    )
    assert there.returncode == 1, there.stderr
    assert "3 of 4 patients converted" in there.stdout
    assert "PAT004 skipped: CT_scans/PAT004: a scan without a mask" in there.stderr
    here = subprocess.run([*command, str(tmp_path / "here"), "--workers", "1", "--allow-skips"])
    assert here.returncode == 0
    assert tree(tmp_path / "there") == tree(tmp_path / "here")


def test_a_scheduler_that_does_not_answer(tmp_path):
    raw = tmp_path / "raw"
    write_fumpe_patient(raw, "PAT001", size=24, count=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "CONNECT_SECONDS", 1)
        with pytest.raises(SystemExit, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
            options = RunOptions(quiet=True, scheduler="tcp://127.0.0.1:9")
            convert(Fumpe(raw), tmp_path / "out", options)
