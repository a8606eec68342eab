import itertools

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import write_hu

from pe_unified.ct.errors import DataError
from pe_unified.ct.grids import open_nrrd, placement_of, turn_of
from pe_unified.ct.volume import array_to_hu, read_volume

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


def assert_is_truth(volume, truth, affine):
    np.testing.assert_array_equal(volume.hu, truth)
    assert volume.hu.dtype == np.int16
    assert volume.spacing_mm == pytest.approx(SPACING, abs=1e-4)
    np.testing.assert_allclose(volume.affine_lps(), affine, atol=1e-4)
    assert volume.z_mm == pytest.approx([ORIGIN[2] + SPACING[2] * k for k in range(SHAPE[0])])


def test_dicom_folder(tmp_path, truth, affine):
    write_folder(tmp_path, truth)
    volume = read_volume(tmp_path)
    assert_is_truth(volume, truth, affine)
    assert [path.name for path in volume.files] == ["D6", "D5", "D4", "D3", "D2", "D1"]
    assert len(volume.sop_uids) == len(volume) == 6
    assert volume.position_mm(2, 4, 3) == pytest.approx(tuple((affine @ [3, 4, 2, 1])[:3]))


def test_agrees_with_simpleitk(tmp_path, truth):
    write_folder(tmp_path, truth)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume.hu)
    assert image.GetOrigin() == pytest.approx(volume.origin_mm)
    assert image.TransformIndexToPhysicalPoint((3, 4, 2)) == pytest.approx(
        volume.position_mm(2, 4, 3)
    )


def turned(truth, affine, order, flips):
    """The same volume stored with other axes: array (i, j, k) and its affine to LPS."""
    array, matrix = truth.transpose(2, 1, 0), affine
    array = array.transpose(order)
    matrix = matrix[:, [*order, 3]]
    for axis, flip in enumerate(flips):
        if flip:
            matrix = matrix.copy()
            matrix[:, 3] += matrix[:, axis] * (array.shape[axis] - 1)
            matrix[:, axis] *= -1
            array = np.flip(array, axis)
    return array, matrix


ORIENTATIONS = list(
    itertools.product(itertools.permutations(range(3)), itertools.product([0, 1], repeat=3))
)


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_every_orientation_is_brought_into_place(truth, affine, order, flips):
    array, matrix = turned(truth, affine, order, flips)
    turn = turn_of(matrix)
    np.testing.assert_array_equal(turn.apply(array), truth)
    placed = placement_of(matrix, turn, array.shape)
    assert placed.spacing_mm == pytest.approx(SPACING)
    assert placed.origin_mm == pytest.approx(ORIGIN)
    np.testing.assert_allclose(placed.direction, np.eye(3), atol=1e-9)
    # The slice at index 0 is where the file has it.
    k = turn.file_slice(0, SHAPE[0])
    np.testing.assert_array_equal(
        np.take(array, k, axis=turn.axes[0]), _level(truth[0], turn, array)
    )


def _level(level, turn, array):
    """One slice of the truth in the file's own order of the other two axes."""
    for axis, flip in enumerate(turn.flips[1:]):
        level = np.flip(level, axis) if flip else level
    return level if turn.axes[1] < turn.axes[2] else level.T


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("flips", [(0, 0, 0), (1, 1, 0), (0, 1, 1)])
def test_nifti(tmp_path, truth, affine, flips, scaled):
    array, matrix = turned(truth, affine, (0, 1, 2), flips)
    image = nibabel.Nifti1Image(array, np.diag([-1, -1, 1, 1]) @ matrix)
    if scaled:
        image = nibabel.Nifti1Image(array.astype(np.float64), image.affine)
        image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "ct.nii.gz")
    volume = read_volume(tmp_path / "ct.nii.gz")
    if scaled:  # nibabel chose a slope that spreads the values
        assert np.abs(volume.hu.astype(int) - truth).max() <= 1
    else:
        assert_is_truth(volume, truth, affine)


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


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("flips", [(0, 0, 0), (0, 1, 1)])
def test_nrrd(tmp_path, truth, affine, encoding, flips):
    array, matrix = turned(truth, affine, (0, 1, 2), flips)
    write_nrrd(tmp_path / "ct.nrrd", array, matrix, encoding=encoding)
    assert_is_truth(read_volume(tmp_path / "ct.nrrd"), truth, affine)


def test_nrrd_in_ras_and_big_endian(tmp_path, truth, affine):
    matrix = np.diag([-1.0, -1, 1, 1]) @ affine
    array = truth.transpose(2, 1, 0).astype(">i2")
    write_nrrd(tmp_path / "ct.nrrd", array, matrix, space="right-anterior-superior", endian="big")
    assert_is_truth(read_volume(tmp_path / "ct.nrrd"), truth, affine)


def test_nrrd_with_detached_data(tmp_path, truth, affine):
    array = truth.transpose(2, 1, 0)
    write_nrrd(tmp_path / "ct.nhdr", array, affine, encoding="raw")
    assert_is_truth(read_volume(tmp_path / "ct.nhdr"), truth, affine)


def test_nrrd_written_by_simpleitk(tmp_path, truth, affine):
    image = sitk.GetImageFromArray(truth)
    image.SetSpacing((SPACING[1], SPACING[0], SPACING[2]))
    image.SetOrigin(ORIGIN)
    sitk.WriteImage(image, str(tmp_path / "ct.nrrd"), useCompression=True)
    assert_is_truth(read_volume(tmp_path / "ct.nrrd"), truth, affine)


def test_nrrd_without_geometry(tmp_path, truth):
    nrrd.write(str(tmp_path / "ct.nrrd"), truth.transpose(2, 1, 0).copy())
    volume = read_volume(tmp_path / "ct.nrrd")
    np.testing.assert_array_equal(volume.hu, truth)
    assert volume.spacing_mm == (None, None, None)
    assert "how the volume lies" in volume.notes[0]


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_truncated_nrrd(tmp_path, truth, affine, encoding):
    path = tmp_path / "ct.nrrd"
    write_nrrd(path, truth.transpose(2, 1, 0), affine, encoding=encoding)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="cut short"):
        read_volume(path)


def test_unpacking_leaves_nothing_but_the_scratch(tmp_path, truth, affine):
    path = tmp_path / "ct.nrrd"
    write_nrrd(path, truth.transpose(2, 1, 0), affine, encoding="gzip")
    with pytest.raises(ValueError, match="scratch"):
        open_nrrd(path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    array, _ = open_nrrd(path, scratch)
    np.testing.assert_array_equal(array.open(), truth.transpose(2, 1, 0))
    assert [item.name for item in scratch.iterdir()] == ["ct.nrrd.raw"]


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nii", "ct.nrrd", "slice.dcm"])
def test_rubbish_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"rubbish" * 100)
    with pytest.raises(DataError, match=name):
        read_volume(tmp_path / name)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        read_volume(tmp_path / "absent")
    with pytest.raises(DataError, match="no axial CT slice"):
        read_volume(tmp_path)


def test_missing_slices_and_second_series_are_noted(tmp_path, truth):
    write_folder(tmp_path, truth, reverse_names=False)
    (tmp_path / "D3").unlink()
    write_hu(tmp_path / "other", truth[0], SeriesInstanceUID="9.9", z=5)
    volume = read_volume(tmp_path)
    assert len(volume) == 5
    assert any("1 slices seem to be missing" in note for note in volume.notes)
    assert any("9.9" in note for note in volume.notes)
    assert len(read_volume(tmp_path, series_uid="9.9")) == 1


def test_single_slice_file(tmp_path, truth):
    write_hu(tmp_path / "one.dcm", truth[0], z=7.0)
    volume = read_volume(tmp_path / "one.dcm")
    assert volume.shape == (1, *SHAPE[1:]) and volume.z_mm == (7.0,)


def test_volume_stored_with_an_offset(truth):
    shifted = (truth.astype(np.int32) + 1024).astype(np.uint16)
    hu, note = array_to_hu(shifted)
    np.testing.assert_array_equal(hu, truth)
    assert "1024" in note
    hu, note = array_to_hu(truth.astype(np.float32) + 0.2)
    np.testing.assert_array_equal(hu, truth)
    assert note == ""


def test_not_a_number_is_air():
    array = np.full((1, 2, 2), -5, dtype=np.float32)
    array[0, 0, 0] = np.nan
    assert array_to_hu(array)[0][0].tolist() == [[-1024, -5], [-5, -5]]
