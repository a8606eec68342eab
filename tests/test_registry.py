"""Parts are found by name in a process that has asked for none before."""

import subprocess
import sys

CODE = """
import sys
from pe_unified.registry import MODELS
names = ["PEUnified", "UNetDecoder", "mmdet.FPN"]
assert all(MODELS.get(name) for name in names)
print(sorted({"timm", "mmseg"} & sys.modules.keys()))
names = ["mmseg.DiceLoss", "PEUNetDecodeHead", "pe_unified.PEUNetDecodeHead"]
print([MODELS.get(name).__name__ for name in names])
"""


def test_parts_of_mmseg_and_timm_load_when_they_are_named():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    late, found = done.stdout.splitlines()[-2:]
    assert late == "[]"
    assert found == "['DiceLoss', 'PEUNetDecodeHead', 'PEUNetDecodeHead']"
