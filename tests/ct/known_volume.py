"""One small volume, written in every form; what reading it must give."""

import nrrd
import numpy as np
import pytest
from dicom_files import write_hu

from pe_unified.ct.opening import open_study

SHAPE = (6, 10, 8)  # slices, rows, cols
SPACING = (0.6, 0.8, 1.5)  # row, col, slice
ORIGIN = (-30.0, -40.0, -700.0)


@pytest.fixture
def truth():
    rng = np.random.default_rng(1)
    return rng.integers(-1000, 1000, SHAPE).astype(np.int16)


@pytest.fixture
def affine():
    """(col, row, slice) indices to LPS."""
    affine = np.diag([SPACING[1], SPACING[0], SPACING[2], 1.0])
    affine[:3, 3] = ORIGIN
    return affine


def write_folder(folder, hu, reverse_names=True):
    for k, level in enumerate(hu):
        name = len(hu) - k if reverse_names else k + 1
        write_hu(
            folder / f"D{name}",
            level,
            ImagePositionPatient=[ORIGIN[0], ORIGIN[1], ORIGIN[2] + SPACING[2] * k],
            PixelSpacing=list(SPACING[:2]),
        )


def read(path, **options):
    """The study, and all of its slices."""
    with open_study(path, **options) as study:
        return study, study.all_hu()


def assert_is_truth(path, truth, affine):
    volume, hu = read(path)
    np.testing.assert_array_equal(hu, truth)
    assert hu.dtype == np.int16
    assert volume.spacing_mm == pytest.approx(SPACING, abs=1e-4)
    np.testing.assert_allclose(volume.affine_lps(), affine, atol=1e-4)
    assert volume.z_mm == pytest.approx([ORIGIN[2] + SPACING[2] * k for k in range(SHAPE[0])])


def write_nrrd(path, array, matrix, **header):
    nrrd.write(
        str(path),
        np.ascontiguousarray(array),
        {
            "space": "left-posterior-superior",
            "space directions": matrix[:3, :3].T,
            "space origin": matrix[:3, 3],
            **header,
        },
    )
