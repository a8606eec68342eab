"""Small reference masks and predictions as files."""

import nibabel
import numpy as np

SHAPE = (12, 24, 20)  # slices, rows, cols
SPACING = (2.0, 0.7, 0.8)  # slice, row, col, mm
ORIGIN = (-30.0, -40.0, 100.0)  # LPS, mm


def affine_lps(spacing=SPACING, origin=ORIGIN):
    step, row, col = spacing
    affine = np.diag([col, row, step, 1.0])
    affine[:3, 3] = origin
    return affine


def save_nifti(path, volume, affine=None):
    """A volume (slices, rows, cols) that lies as ``affine`` says, (col, row, slice) to LPS mm."""
    affine = affine_lps() if affine is None else affine
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.ascontiguousarray(volume.T), np.diag([-1, -1, 1, 1]) @ affine)
    nibabel.save(image, path)
    return path


def blocks(*boxes, shape=SHAPE, dtype=np.uint8):
    """A volume with the boxes ((z, y, x), (dz, dy, dx)) numbered from 1."""
    volume = np.zeros(shape, dtype)
    for number, (start, size) in enumerate(boxes, start=1):
        volume[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = number
    return volume
