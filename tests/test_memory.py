"""Run in processes of their own: the setting cannot be taken back."""

import subprocess
import sys

import pytest

from pe_unified.memory import sparse_zeros

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


SPARSE = """
from pathlib import Path
from pe_unified.memory import sparse_zeros

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

before = resident()
frames = sparse_zeros((1024, 512, 512))
frames[::4, 100:120, 200:230] = 7
assert frames.max() == 7 and frames[0].sum() == 7 * 600 and not frames[1].any()
print(resident() - before < 48 << 20)
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


def test_zeros_that_are_not_written_to_take_no_memory():
    assert said_by(SPARSE) == "True"


def test_zeros_of_no_size():
    assert sparse_zeros((0, 4)).shape == (0, 4)
