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
