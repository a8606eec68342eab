"""The same command on a cluster: a real scheduler and two workers on loopback."""

import subprocess
import sys
from pathlib import Path

import pytest
from raw_sets import tree, write_fumpe_patient

from pe_unified import workers
from pe_unified.converters.pipeline.run import RunOptions, convert
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.workers import SchedulerError

pytest.importorskip("distributed", reason="Dask is not installed")
SCRIPT = Path(__file__).resolve().parents[2] / "data_converters" / "fumpe_to_coco.py"


@pytest.mark.slow
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
        patch.setattr(workers, "CONNECT_SECONDS", 1)
        with pytest.raises(
            SchedulerError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"
        ):
            options = RunOptions(quiet=True, scheduler="tcp://127.0.0.1:9")
            convert(Fumpe(raw), tmp_path / "out", options)
