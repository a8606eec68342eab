"""Real files on which readers fail; skipped where they are absent. Other tests make such files."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from known_volume import read

from pe_unified.ct.headers import scan_folder
from pe_unified.errors import DataError

FAULTS = Path(__file__).resolve().parents[3] / "shared" / "faults"
pytestmark = pytest.mark.skipif(not FAULTS.exists(), reason="no real files here")


def test_a_directory_beside_slices_is_ignored():
    scan = scan_folder(FAULTS / "philips_dirfile")
    assert len(scan.headers) == 67 and not scan.broken
    assert {path.name for path, _ in scan.ignored} == {"DIRFILE"}


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("truncated_slice", r"I004\.dcm: the pixels cannot be decoded \(the file ends"),
        ("progressive", r"\.dcm: compressed as JPEG Full Progression.*, which is not supported"),
    ],
)
def test_what_cannot_be_decoded_is_told_in_one_line(folder, said):
    with warnings.catch_warnings(), pytest.raises(DataError, match=said) as error:
        warnings.simplefilter("ignore")
        read(FAULTS / folder)
    assert "\n" not in str(error.value)


def test_a_meta_image_lies_as_itk_reads_it():
    path = FAULTS / "3DCT_lung_baseline_small.mha"
    study, hu = read(path)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(hu, np.maximum(sitk.GetArrayFromImage(image), -1024))
    place = image.TransformIndexToPhysicalPoint((3, 4, 2))
    assert study.position_mm(2, 4, 3) == pytest.approx(place)
