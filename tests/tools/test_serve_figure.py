"""The documentation's picture of the reader's screen."""

import sys

import cv2
import numpy as np
import pytest

from pe_unified.benchmarks.chromium import CHROMIUM


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.slow
def test_it_shows_the_study_with_its_lesions(report, folder, tmp_path, monkeypatch, load_tool):
    picture = tmp_path / "serve.png"
    words = [str(report[0].parent), str(picture), "--studies", str(folder)]
    monkeypatch.setattr(sys, "argv", ["serve_figure.py", *words])
    load_tool("serve_figure").main()
    seen = cv2.imread(str(picture))
    assert seen.shape == (820, 1400, 3)
    saturated = np.ptp(seen.astype(int), axis=2) > 100  # masks and boxes: slices are grey
    assert saturated.sum() > 200
