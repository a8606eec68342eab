"""Run in a process of its own: the setting cannot be taken back."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from pe_unified.memory import keep_freed_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        np.ones(64 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(2)
usual = faults(8)
if not keep_freed_memory():
    print("unknown")
else:
    faults(2)
    print("fewer" if faults(8) < usual / 4 else "no fewer")
"""


def test_memory_is_fetched_once():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if done.stdout.strip() == "unknown":
        pytest.skip("not glibc")
    assert done.stdout.strip() == "fewer"
