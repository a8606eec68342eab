"""Masks in FUMPE's MATLAB files, of either version."""

from pathlib import Path

import h5py
import numpy as np
from scipy.io import loadmat


def read_mask(path: Path) -> np.ndarray:
    """(rows, cols, slices)."""
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            return np.asarray(file["Mask"]).T
    return loadmat(path)["Mask"]
