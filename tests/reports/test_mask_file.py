import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import write_hu

from pe_unified.ct.opening import open_study
from pe_unified.errors import DataError
from pe_unified.reports.mask_file import read_mask, write_mask

SHAPE = (5, 8, 6)  # slices, rows, cols
PIXELS = {1: {1: np.array([0, 7]), 2: np.array([13])}, 300: {4: np.array([47])}}


def truth():
    mask = np.zeros(SHAPE, np.uint8)
    for number, slices in PIXELS.items():
        for index, own in slices.items():
            mask[index].ravel()[own] = min(number, 255)
    return mask


def report_of(kind):
    return {"input": {"kind": kind, **dict(zip(("slices", "rows", "cols"), SHAPE))}}


def test_over_a_dicom_series_as_simpleitk_reads_both(tmp_path):
    rng = np.random.default_rng(0)
    hu = rng.integers(-1000, 1000, SHAPE).astype(np.int16)
    for k, level in enumerate(hu):
        place = [-100.0, -80.0, -300 + 1.5 * k]
        write_hu(tmp_path / "ct" / f"{k}.dcm", level, ImagePositionPatient=place)
    with open_study(tmp_path / "ct") as study:
        write_mask(tmp_path / "mask.nii.gz", study, PIXELS)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    ct, mask = reader.Execute(), sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ct), hu)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), truth())
    report = report_of("DICOM")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz", report), truth())
    report["input"]["slices"] += 1
    with pytest.raises(DataError, match=r"mask.nii.gz: .*the study has \(6, 8, 6\)"):
        read_mask(tmp_path / "mask.nii.gz", report)
    (tmp_path / "mask.nii.gz").write_bytes(b"rubbish")
    with pytest.raises(DataError, match="no readable mask"):
        read_mask(tmp_path / "mask.nii.gz", report)
    assert mask.GetOrigin() == pytest.approx(ct.GetOrigin())
    assert mask.GetSpacing() == pytest.approx(ct.GetSpacing())
    assert mask.GetDirection() == pytest.approx(ct.GetDirection())


def test_over_a_tilted_series(tmp_path):
    """ITK stacks slices upright, whether it reads the series or the mask; the sform is true."""
    tilt = np.radians(20.0)
    orientation = [1, 0, 0, 0, np.cos(tilt), -np.sin(tilt)]
    for k in range(SHAPE[0]):
        elements = dict(
            ImageOrientationPatient=[round(float(each), 8) for each in orientation],
            ImagePositionPatient=[-30, -40, 2.0 * k],
        )
        write_hu(tmp_path / "ct" / f"{k}.dcm", np.zeros(SHAPE[1:], np.int16), **elements)
    with open_study(tmp_path / "ct") as study:
        write_mask(tmp_path / "mask.nii.gz", study, PIXELS)
        place = study.position_mm(4, 2, 3)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    ct, mask = reader.Execute(), sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    assert mask.TransformIndexToPhysicalPoint((3, 2, 4)) == pytest.approx(
        ct.TransformIndexToPhysicalPoint((3, 2, 4)), abs=1e-3
    )
    true = nibabel.load(tmp_path / "mask.nii.gz").affine @ [3, 2, 4, 1]
    assert true[:3] * [-1, -1, 1] == pytest.approx(place, abs=1e-4)


@pytest.mark.parametrize(
    ("order", "flips"),
    list(itertools.product(itertools.permutations(range(3)), itertools.product([0, 1], repeat=3))),
)
def test_in_the_grid_of_a_nifti(tmp_path: Path, order, flips):
    """However the file is turned, every voxel of the mask lies where that of the CT does."""
    rng = np.random.default_rng(1)
    hu = rng.integers(-1000, 1000, SHAPE).astype(np.int16)
    affine = np.diag([-0.7, -0.8, 1.5, 1.0])[:, [*order, 3]]
    array = hu.transpose(2, 1, 0).transpose(order)
    for axis, flip in enumerate(flips):
        if flip:
            affine[:, 3] += affine[:, axis] * (array.shape[axis] - 1)
            affine[:, axis] *= -1
            array = np.flip(array, axis)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array), affine), tmp_path / "ct.nii.gz")
    with open_study(tmp_path / "ct.nii.gz") as study:
        np.testing.assert_array_equal(study.all_hu(), hu)
        write_mask(tmp_path / "mask.nii.gz", study, PIXELS)
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    assert mask.shape == array.shape
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)
    expected = {tuple(v) for v in np.argwhere(truth())}
    values = np.asarray(mask.dataobj)
    found = {tuple(np.argwhere(hu == array[tuple(voxel)])[0]) for voxel in np.argwhere(values)}
    unique = {v for v in expected if (hu == hu[v]).sum() == 1}
    assert unique <= found and len(np.argwhere(values)) == len(expected)
    read = read_mask(tmp_path / "mask.nii.gz", report_of("volume file"))
    np.testing.assert_array_equal(read, truth())
