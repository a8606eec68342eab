"""mmcv's compiled operators: the stand-in, and who wins where both exist."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_unified.ops import MmcvExtFallback, install_mmcv_fallback, mmcv_ext


def _python(code: str, *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True)


def _greedy(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list[int]:
    """Non-maximum suppression written from its definition, in double precision."""
    kept: list[int] = []
    for index in np.argsort(-scores):
        x1, y1, x2, y2 = boxes[index].astype(float)
        area = (x2 - x1 + offset) * (y2 - y1 + offset)
        for other in kept:
            u1, v1, u2, v2 = boxes[other].astype(float)
            width = max(0.0, min(x2, u2) - max(x1, u1) + offset)
            height = max(0.0, min(y2, v2) - max(y1, v1) + offset)
            overlap = width * height
            union = area + (u2 - u1 + offset) * (v2 - v1 + offset) - overlap
            if union > 0 and overlap / union > threshold:
                break
        else:
            kept.append(int(index))
    return kept


@settings(max_examples=60)
@given(
    corners=st.lists(
        st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 20)] * 2), min_size=0, max_size=25
    ),
    offset=st.sampled_from([0, 1]),
    threshold=st.sampled_from([0.1037, 0.3119, 0.5013, 0.7071]),
    seed=st.integers(0, 2**16),
)
def test_nms_is_the_greedy_definition(corners, offset, threshold, seed):
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in corners], np.float32).reshape(-1, 4)
    scores = np.random.default_rng(seed).permutation(len(boxes)).astype(np.float32)
    kept = mmcv_ext.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold, offset)
    assert kept.tolist() == _greedy(boxes, scores, threshold, offset)


def test_offset_changes_what_overlaps():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 2, 4, 6]])
    scores = torch.tensor([0.9, 0.8])
    # Continuous: 8 of 24; with the older pixel convention: 15 of 35.
    assert mmcv_ext.nms(boxes, scores, 0.4, 0).tolist() == [0, 1]
    assert mmcv_ext.nms(boxes, scores, 0.4, 1).tolist() == [0]


def test_nms_refuses_another_offset():
    with pytest.raises(ValueError, match="offset is 0 or 1"):
        mmcv_ext.nms(torch.zeros(1, 4), torch.zeros(1), 0.5, 2)


def test_other_operators_say_what_to_do_when_called():
    operator = mmcv_ext.deform_conv_forward
    with pytest.raises(NotImplementedError, match=r"'deform_conv_forward'.*no compiled"):
        operator(1, 2, three=3)


def test_dunder_names_stay_absent():
    with pytest.raises(AttributeError):
        mmcv_ext.__path__  # noqa: B018  (the lookup is the test)


def test_installed_once_and_last(monkeypatch):
    others = [each for each in sys.meta_path if not isinstance(each, MmcvExtFallback)]
    monkeypatch.setattr(sys, "meta_path", others)
    install_mmcv_fallback()
    install_mmcv_fallback()
    assert sum(isinstance(finder, MmcvExtFallback) for finder in sys.meta_path) == 1
    assert isinstance(sys.meta_path[-1], MmcvExtFallback)


@pytest.mark.slow
def test_mmdet_imports_quietly_with_the_finder_last():
    code = (
        "import sys, pe_unified\n"
        "from pe_unified.ops import MmcvExtFallback\n"
        "assert isinstance(sys.meta_path[-1], MmcvExtFallback), sys.meta_path\n"
        "import mmdet.models, mmcv._ext\n"
        "print(mmcv._ext.get_compiler_version())\n"
    )
    done = _python(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "importing must not greet the user with warnings"


@pytest.mark.slow
def test_a_compiled_extension_wins(tmp_path: Path):
    (tmp_path / "_ext.py").write_text("WHO = 'compiled'\n")
    code = (
        "import pe_unified, mmcv\n"
        f"mmcv.__path__.insert(0, {str(tmp_path)!r})\n"
        "import mmcv._ext\n"
        "assert not hasattr(mmcv._ext, 'PE_UNIFIED_FALLBACK')\n"
        "print(mmcv._ext.WHO)\n"
    )
    done = _python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "compiled"
