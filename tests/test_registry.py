"""Parts are found by name in a process that has asked for none before."""

import subprocess
import sys

import pytest

CODE = """
import sys
from pe_unified.registry import MODELS
names = ["PEUnified", "UNetDecoder", "SMPNet", "MONAINet", "mmdet.FPN"]
assert all(MODELS.get(name) for name in names)
late = {"timm", "mmseg", "segmentation_models_pytorch", "monai"}
print(sorted(late & sys.modules.keys()))
names = ["mmseg.DiceLoss", "PEUNetDecodeHead", "pe_unified.PEUNetDecodeHead"]
print([MODELS.get(name).__name__ for name in names])
"""


@pytest.mark.slow
def test_other_libraries_load_when_their_parts_are_named():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    late, found = done.stdout.splitlines()[-2:]
    assert late == "[]"
    assert found == "['DiceLoss', 'PEUNetDecodeHead', 'PEUNetDecodeHead']"
