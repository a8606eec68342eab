"""Run in processes of their own: the setting cannot be taken back."""

import subprocess
import sys

import pytest

KEEPING = """
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


GIVING_BACK = """
from pathlib import Path
import numpy as np
from pe_unified.memory import give_back_freed_memory, keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if not keep_freed_memory():
    print("unknown")
else:
    blocks = [np.ones(1 << 20, np.uint8) for _ in range(128)]
    kept = blocks[-1]
    del blocks
    before = resident()
    told = give_back_freed_memory()
    print(told and before - resident() > 100 << 20)
"""


def said_by(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if done.stdout.strip() == "unknown":
        pytest.skip("not glibc")
    return done.stdout.strip()


def test_memory_is_fetched_once():
    assert said_by(KEEPING) == "fewer"


def test_freed_memory_goes_back_when_told_to():
    assert said_by(GIVING_BACK) == "True"
