import itertools

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from known_volume import ORIGIN, SHAPE, SPACING, assert_is_truth, read, write_nrrd

from pe_unified.ct.grids import placement_of, turn_of
from pe_unified.ct.hu import HU_MAX, HU_MIN
from pe_unified.ct.opening import open_study
from pe_unified.ct.volume_files import level_to_hu, open_nrrd, volume_shift
from pe_unified.errors import DataError


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
    np.testing.assert_array_equal(turn.level(array, 2), truth[2])
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
    if scaled:  # nibabel chose a slope that spreads the values
        assert np.abs(read(tmp_path / "ct.nii.gz")[1].astype(int) - truth).max() <= 1
    else:
        assert_is_truth(tmp_path / "ct.nii.gz", truth, affine)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("flips", [(0, 0, 0), (0, 1, 1)])
def test_nrrd(tmp_path, truth, affine, encoding, flips):
    array, matrix = turned(truth, affine, (0, 1, 2), flips)
    write_nrrd(tmp_path / "ct.nrrd", array, matrix, encoding=encoding)
    assert_is_truth(tmp_path / "ct.nrrd", truth, affine)


def test_nrrd_in_ras_and_big_endian(tmp_path, truth, affine):
    matrix = np.diag([-1.0, -1, 1, 1]) @ affine
    array = truth.transpose(2, 1, 0).astype(">i2")
    write_nrrd(tmp_path / "ct.nrrd", array, matrix, space="right-anterior-superior", endian="big")
    assert_is_truth(tmp_path / "ct.nrrd", truth, affine)


def test_nrrd_with_detached_data(tmp_path, truth, affine):
    array = truth.transpose(2, 1, 0)
    write_nrrd(tmp_path / "ct.nhdr", array, affine, encoding="raw")
    assert_is_truth(tmp_path / "ct.nhdr", truth, affine)
    assert_is_truth(tmp_path, truth, affine)
    with open_study(tmp_path) as study:
        assert study.broken == ()


@pytest.mark.parametrize("several", ["LIST", "ct%03d.raw 1 6 1"])
def test_nrrd_with_data_in_several_files(tmp_path, truth, affine, several):
    write_nrrd(tmp_path / "ct.nhdr", truth.transpose(2, 1, 0), affine, encoding="raw")
    header = (tmp_path / "ct.nhdr").read_text()
    (tmp_path / "ct.nhdr").write_text(header.replace("ct.raw", f"{several}\nct1.raw"))
    with pytest.raises(DataError, match="in several files; save it as one"):
        read(tmp_path / "ct.nhdr")


def test_nrrd_written_by_simpleitk(tmp_path, truth, affine):
    image = sitk.GetImageFromArray(truth)
    image.SetSpacing((SPACING[1], SPACING[0], SPACING[2]))
    image.SetOrigin(ORIGIN)
    sitk.WriteImage(image, str(tmp_path / "ct.nrrd"), useCompression=True)
    assert_is_truth(tmp_path / "ct.nrrd", truth, affine)


def test_nrrd_without_geometry(tmp_path, truth):
    nrrd.write(str(tmp_path / "ct.nrrd"), truth.transpose(2, 1, 0).copy())
    volume, hu = read(tmp_path / "ct.nrrd")
    np.testing.assert_array_equal(hu, truth)
    assert volume.spacing_mm == (None, None, None)
    assert not volume.placed


@pytest.mark.parametrize("space", [None, "3D-right-handed"])
def test_nrrd_in_a_space_without_patient_axes_keeps_its_spacing(tmp_path, truth, affine, space):
    turned = affine[:3, :3].T @ np.array([[0.8, 0.6, 0.0], [-0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    header = {"space directions": turned} | ({"space": space} if space else {})
    nrrd.write(str(tmp_path / "ct.nrrd"), truth.transpose(2, 1, 0).copy(), header)
    volume, hu = read(tmp_path / "ct.nrrd")
    np.testing.assert_array_equal(hu, truth)
    assert volume.spacing_mm == pytest.approx(SPACING) and not volume.placed


@pytest.mark.parametrize("encoding", ["gzip", "bzip2"])
def test_what_packs_too_well_is_no_ct(tmp_path, affine, encoding):
    path = tmp_path / "bomb.nrrd"
    write_nrrd(path, np.zeros((512, 512, 64), np.int16), affine, encoding=encoding)
    with pytest.raises(DataError, match="unpacks to far more"), open_study(path):
        pass
    # A mask may be as empty as that: what its header says is what it may unpack to.
    array, _ = open_nrrd(path, tmp_path)
    assert not array.open().any()


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_truncated_nrrd(tmp_path, truth, affine, encoding):
    path = tmp_path / "ct.nrrd"
    write_nrrd(path, truth.transpose(2, 1, 0), affine, encoding=encoding)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"cut short|ended before"):
        read(path)


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


def test_volume_stored_with_an_offset(tmp_path, truth, affine):
    shifted = (truth.astype(np.int32) + 1024).astype(np.uint16)
    write_nrrd(tmp_path / "ct.nrrd", shifted.transpose(2, 1, 0), affine)
    study, hu = read(tmp_path / "ct.nrrd")
    np.testing.assert_array_equal(hu, truth)
    assert "1024" in study.notes[0]
    assert volume_shift(truth) == 0
    np.testing.assert_array_equal(level_to_hu(truth[0] + np.float32(0.2), 0), truth[0])


def test_not_a_number_is_air():
    level = np.full((2, 2), -5, dtype=np.float32)
    level[0, 0] = np.nan
    assert volume_shift([level]) == 0
    assert level_to_hu(level, 0).tolist() == [[-1024, -5], [-5, -5]]


def test_an_affine_that_places_nothing(tmp_path, truth):
    image = nibabel.Nifti1Image(truth, np.eye(4))
    image.header["pixdim"][1:4] = np.nan
    image.header["sform_code"] = image.header["qform_code"] = 0
    image.header["srow_x"] = np.nan
    path = tmp_path / "nan.nii"
    data = bytearray(image.header.binaryblock + b"\0" * 4 + truth.tobytes("F"))
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"nan\.nii"):
        read(path)


def test_numbers_that_are_none(tmp_path):
    """Neither the place of an empty slice nor an endless value changes what the others are."""
    empty, tissue = np.full((4, 4), np.nan), np.full((4, 4), 40.0)
    assert volume_shift([empty, tissue]) == volume_shift([tissue, empty]) == -1024
    found = level_to_hu(np.array([[np.inf, 3e30], [-np.inf, np.nan]]), 0)
    assert found.tolist() == [[HU_MAX, HU_MAX], [HU_MIN, HU_MIN]]


def test_a_sheared_volume_is_measured_along_its_normal(tmp_path, truth, affine):
    """As converters write a scan with a tilted gantry."""
    angle = np.deg2rad(20)
    sheared = affine.copy()
    sheared[:3, 2] = np.linalg.norm(affine[:3, 2]) * np.array([0, np.sin(angle), np.cos(angle)])
    write_nrrd(tmp_path / "ct.nrrd", truth.transpose(2, 1, 0), sheared)
    study, hu = read(tmp_path / "ct.nrrd")
    np.testing.assert_array_equal(hu, truth)
    assert study.tilt_degrees == pytest.approx(20)
    voxel = abs(np.linalg.det(sheared[:3, :3]))
    assert np.prod(study.spacing_mm) == pytest.approx(voxel)
    expected = sheared @ [0, 0, 4, 1]
    assert study.position_mm(4, 0, 0) == pytest.approx(tuple(expected[:3]))
    assert np.diff(study.z_mm) == pytest.approx(SPACING[2] * np.cos(angle), abs=2e-4)


def test_files_that_do_not_say_how_the_patient_lies(tmp_path, truth, affine):
    image = nibabel.Nifti1Image(truth.transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine)
    nibabel.save(image, tmp_path / "placed.nii")
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "unplaced.nii")
    spaced = {"spacings": list(SPACING[::-1])}
    nrrd.write(str(tmp_path / "unplaced.nrrd"), truth.transpose(2, 1, 0).copy(), spaced)
    assert read(tmp_path / "placed.nii")[0].placed
    for name in ("unplaced.nii", "unplaced.nrrd"):
        study, _ = read(tmp_path / name)
        assert not study.placed and None not in study.spacing_mm
