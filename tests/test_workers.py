"""Processes that work side by side."""

import subprocess
import sys
import time

from pe_unified.workers import in_order, open_executor


def _late(number):
    time.sleep(0.05 * (3 - number))
    return number


def test_results_come_in_the_order_of_the_tasks():
    for workers in (1, 3):
        with open_executor(workers) as (executor, slots):
            assert list(in_order(executor, slots, _late, ((n,) for n in range(4)))) == [0, 1, 2, 3]


def test_a_clone_in_the_working_folder_does_not_hide_the_package(tmp_path):
    (tmp_path / "pe_unified").mkdir()
    code = "import pe_unified; print(pe_unified.__version__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_worker_that_ends_by_itself_keeps_no_fork_server():
    """Between two looks at the processes; the server is stopped by then."""
    code = """
import os, subprocess, psutil
from pe_unified import workers

workers._context([])
gone = subprocess.Popen(["true"])
ended = psutil.Process(gone.pid)
gone.wait()
children = psutil.Process.children
psutil.Process.children = lambda each: children(each) if each.pid == os.getpid() else [ended]
workers.end_workers()
found = {each.status() for each in children(psutil.Process())} - {"sleeping", "running"}
for each in children(psutil.Process()):
    each.kill()
print(found)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "{'zombie'}\n", done.stderr[-2000:]
