"""Pasted emboli are counted where they lie."""

import cv2
import numpy as np
from vessel_set import SIDE, SLICES, write_arteries, write_vessel_set


def test_pixels_are_counted_by_the_structure_that_they_lie_in(load_tool, tmp_path):
    """The vessel at (72, 72) is an artery, that at (25, 75) a vein, the third is nothing."""
    data = write_vessel_set(tmp_path / "data")
    structure = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(structure, (72, 72), 9, 2, -1)
    cv2.circle(structure, (25, 75), 9, 3, -1)
    np.savez(tmp_path / "PAT000.npz", structures=np.stack([structure] * SLICES))
    found = load_tool("check_pasting").count_places(data, tmp_path)
    assert found["slices"] == SLICES - 1, "the masks of the first are unknown"
    assert found["changed"] == SLICES - 1
    assert set(found["pixels"]) == {"artery", "vein", "other"}
    structures = write_arteries(tmp_path / "structures", lambda index: 3)
    found = load_tool("check_pasting").count_places(data, tmp_path, structures)
    assert set(found["pixels"]) == {"artery"}
