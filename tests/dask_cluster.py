"""A real Dask cluster on loopback."""

import json
import os
import subprocess
import sys
import time

import pytest


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
        yield _address(file, processes)
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def _start(command, environment):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, **quiet)


def _address(file, processes):
    """Once both workers are there."""
    from distributed import Client

    address = None
    while address is None:
        assert all(process.poll() is None for process in processes), "it did not start"
        try:
            address = json.loads(file.read_text())["address"]
        except (OSError, ValueError):
            time.sleep(0.1)
    with Client(address, timeout=600) as client:
        client.wait_for_workers(2)
    return address
