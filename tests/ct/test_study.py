import itertools
import shutil
import tempfile

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import write_hu, write_slice

from pe_unified.ct.errors import DataError
from pe_unified.ct.grids import placement_of, turn_of
from pe_unified.ct.hu import HU_MAX, HU_MIN
from pe_unified.ct.study import open_study
from pe_unified.ct.volume_files import level_to_hu, open_nrrd, volume_shift

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


def test_dicom_folder(tmp_path, truth, affine):
    write_folder(tmp_path, truth)
    assert_is_truth(tmp_path, truth, affine)
    volume, _ = read(tmp_path)
    assert [path.name for path in volume.files] == ["D6", "D5", "D4", "D3", "D2", "D1"]
    assert len(volume.sop_uids) == len(volume) == 6
    assert volume.position_mm(2, 4, 3) == pytest.approx(tuple((affine @ [3, 4, 2, 1])[:3]))


def test_agrees_with_simpleitk(tmp_path, truth):
    write_folder(tmp_path, truth)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    volume, hu = read(tmp_path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), hu)
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


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nii", "ct.nrrd", "slice.dcm"])
def test_rubbish_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"rubbish" * 100)
    with pytest.raises(DataError, match=name):
        read(tmp_path / name)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "absent")
    with pytest.raises(DataError, match="no axial CT slice"):
        read(tmp_path)


def test_missing_slices_and_second_series_are_noted(tmp_path, truth):
    write_folder(tmp_path, truth, reverse_names=False)
    (tmp_path / "D3").unlink()
    write_hu(tmp_path / "other", truth[0], SeriesInstanceUID="9.9", z=5)
    volume, _ = read(tmp_path)
    assert len(volume) == 5
    assert any("1 slices seem to be missing" in note for note in volume.notes)
    assert any("9.9" in note for note in volume.notes)
    assert len(read(tmp_path, series_uid="9.9")[0]) == 1
    assert volume.missing_slices == 1


def test_single_slice_file(tmp_path, truth):
    write_hu(tmp_path / "one.dcm", truth[0], z=7.0)
    volume, _ = read(tmp_path / "one.dcm")
    assert volume.shape == (1, *SHAPE[1:]) and volume.z_mm == (7.0,)


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


def test_a_zip_of_a_folder_and_of_a_volume(tmp_path, truth, affine):
    write_folder(tmp_path / "in" / "sub", truth)
    shutil.make_archive(str(tmp_path / "folder"), "zip", tmp_path / "in")
    assert_is_truth(tmp_path / "folder.zip", truth, affine)
    (tmp_path / "one").mkdir()
    write_nrrd(tmp_path / "one" / "ct.nrrd", truth.transpose(2, 1, 0), affine)
    shutil.make_archive(str(tmp_path / "volume"), "zip", tmp_path / "one")
    assert_is_truth(tmp_path / "volume.zip", truth, affine)


def test_nothing_unpacked_is_left(tmp_path, truth, affine, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    write_nrrd(tmp_path / "ct.nrrd", truth.transpose(2, 1, 0), affine, encoding="gzip")
    with open_study(tmp_path / "ct.nrrd") as study:
        assert list(scratch.iterdir())
        assert study.slice_hu(0).shape == SHAPE[1:]
    assert not list(scratch.iterdir())


def test_the_series_that_names_a_contrast_agent_is_taken(tmp_path, truth):
    write_folder(tmp_path / "plain", truth)
    for k in range(4):
        agent = {"ContrastBolusAgent": "Iomeprol", "SeriesInstanceUID": "9.9"}
        write_hu(tmp_path / "cta" / f"{k}", truth[k], z=2.0 * k, **agent)
    # Bolus tracking: many slices with contrast at one place.
    for k in range(9):
        agent = {"ContrastBolusAgent": "Iomeprol", "SeriesInstanceUID": "8.8"}
        write_hu(tmp_path / "bolus" / f"{k}", truth[0], z=3.0, **agent)
    study, _ = read(tmp_path)
    assert study.series_uid == "9.9" and len(study) == 4
    assert study.notes[0].startswith("series 9.9, of 3: 4 axial slices")
    assert "contrast" in study.notes[0]
    assert read(tmp_path, series_uid="8.8")[0].series_uid == "8.8"


def test_a_tilted_gantry_shears_the_affine(tmp_path, truth):
    angle = np.deg2rad(20)
    down = [0.0, float(np.cos(angle)), float(-np.sin(angle))]
    for k in range(6):
        write_hu(
            tmp_path / f"{k}",
            truth[k],
            ImagePositionPatient=[0.0, 0.0, 2.0 * k],
            ImageOrientationPatient=[1.0, 0.0, 0.0, *down],
        )
    study, _ = read(tmp_path)
    assert study.tilt_degrees == pytest.approx(20, abs=1e-3)
    assert study.position_mm(3, 0, 0) == pytest.approx((0, 0, 6), abs=1e-4)
    assert study.spacing_mm[2] == pytest.approx(2 * np.cos(angle), abs=1e-3)


def test_pictures_of_a_scan_are_refused(tmp_path, truth, affine):
    grey = (truth[0] % 256).astype(np.uint8)
    write_slice(tmp_path / "dicom" / "1", grey)
    with pytest.raises(DataError, match="8-bit image"):
        read(tmp_path / "dicom")
    nibabel.save(nibabel.Nifti1Image(np.stack([grey] * 4, -1), np.eye(4)), tmp_path / "g.nii.gz")
    with pytest.raises(DataError, match="8-bit values"):
        read(tmp_path / "g.nii.gz")


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


def test_places_of_slices_with_a_gap(tmp_path):
    """As their headers say, not as an even grid would have it."""
    for k, z in enumerate([0, 1, 2, 3, 4, 14, 15, 16]):
        write_hu(tmp_path / f"{k}.dcm", np.zeros((8, 8), np.int16), z=float(z))
    with open_study(tmp_path) as study:
        assert study.missing_slices == 9
        assert study.position_mm(7, 0, 0) == pytest.approx((-100, -100, 16))
        assert study.position_mm(4.5, 2, 3) == pytest.approx((-100 + 2.1, -100 + 1.4, 9))


def test_a_folder_with_one_volume_is_that_volume(tmp_path, truth, affine):
    (tmp_path / "case").mkdir()
    write_nrrd(tmp_path / "case" / "ct.nrrd", truth.transpose(2, 1, 0), affine)
    assert_is_truth(tmp_path / "case", truth, affine)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "case")
    assert_is_truth(tmp_path / "packed.zip", truth, affine)


def test_beside_slices_a_volume_is_no_ct(tmp_path, truth, affine):
    """A zip of a DICOM series with its segmentation."""
    for k in range(4):
        write_hu(tmp_path / "case" / f"{k}.dcm", np.full((8, 8), k, np.int16), z=2.0 * k)
    write_nrrd(tmp_path / "case" / "mask.nrrd", truth.transpose(2, 1, 0), affine)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "case")
    with open_study(tmp_path / "packed.zip") as study:
        assert study.shape == (4, 8, 8) and len(study.sop_uids) == 4


def test_what_is_left_out_of_a_zip_is_named_as_its_owner_knows_it(tmp_path):
    for k in range(4):
        write_hu(tmp_path / "case" / f"{k}.dcm", np.zeros((8, 8), np.int16), z=2.0 * k)
    (tmp_path / "case" / "bad.dcm").write_bytes(b"broken" * 60)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "case")
    with open_study(tmp_path / "packed.zip") as study:
        (error,) = study.broken
    assert error.where == str(tmp_path / "packed.zip" / "bad.dcm")


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
