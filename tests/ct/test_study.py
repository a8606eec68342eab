import gzip
import shutil
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import write_enhanced, write_hu, write_slice
from known_volume import ORIGIN, SHAPE, SPACING, assert_is_truth, read, write_folder, write_nrrd

from pe_unified.ct.archive import ArchiveLimits
from pe_unified.ct.opening import open_study
from pe_unified.errors import DataError


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


def test_a_zip_of_a_folder_and_of_a_volume(tmp_path, truth, affine):
    write_folder(tmp_path / "in" / "sub", truth)
    shutil.make_archive(str(tmp_path / "folder"), "zip", tmp_path / "in")
    assert_is_truth(tmp_path / "folder.zip", truth, affine)
    (tmp_path / "one").mkdir()
    write_nrrd(tmp_path / "one" / "ct.nrrd", truth.transpose(2, 1, 0), affine)
    shutil.make_archive(str(tmp_path / "volume"), "zip", tmp_path / "one")
    assert_is_truth(tmp_path / "volume.zip", truth, affine)


@pytest.mark.parametrize("name", ["case.rar", "case.7z", "Case.tar.XZ"])
def test_an_archive_of_another_kind_is_called_so(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xfd7zXZ\0" + bytes(500))
    with pytest.raises(DataError, match=f"{name}: an archive of another kind; unpack it, or pack"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["case.zip", "case.tar.gz", "case.rar"])
def test_an_archive_alone_in_a_folder_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"packed")
    with pytest.raises(DataError, match=f"{name}: an archive in a folder without DICOM slices"):
        read(tmp_path)


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


@pytest.mark.parametrize("kind", ["tar", "gztar", "zip"])
def test_an_archive_of_anything(tmp_path, truth, affine, kind):
    write_folder(tmp_path / "in" / "sub", truth)
    (tmp_path / "in" / "LICENSE").write_text("free of charge")
    assert_is_truth(
        shutil.make_archive(str(tmp_path / "slices"), kind, tmp_path / "in"), truth, affine
    )
    image = sitk.GetImageFromArray(truth)
    image.SetSpacing([affine[k, k] for k in range(3)])
    image.SetOrigin(affine[:3, 3].tolist())
    (tmp_path / "one").mkdir()
    sitk.WriteImage(image, str(tmp_path / "one" / "ct.mhd"), True)
    assert_is_truth(tmp_path / "one", truth, affine)
    assert_is_truth(
        shutil.make_archive(str(tmp_path / "ct"), kind, tmp_path / "one"), truth, affine
    )


def test_gzipped_slices(tmp_path, truth, affine):
    write_folder(tmp_path, truth)
    for path in list(tmp_path.iterdir()):
        (tmp_path / f"{path.name}.dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert_is_truth(tmp_path, truth, affine)


@pytest.mark.parametrize("whole", [True, False])
def test_gzipped_frames_are_unpacked_once(tmp_path, truth, affine, monkeypatch, whole):
    """Also where all of them are larger than a slice."""
    frames = [{"ImagePositionPatient": [*ORIGIN[:2], ORIGIN[2] + SPACING[2] * k]} for k in range(6)]
    shared = {"PixelSpacing": list(SPACING[:2])}
    path = write_enhanced(tmp_path / "plain" / "a.dcm", truth, frames, shared=shared)
    packed = tmp_path / "in" / "a.dcm.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(path.read_bytes()))
    if whole:
        monkeypatch.setattr("pe_unified.ct.dicom_file.LARGEST_SLICE", 1000)
    unpacked = []
    monkeypatch.setattr(
        "gzip.open", lambda path, *words, was=gzip.open: unpacked.append(path) or was(path, *words)
    )
    for place in (packed, packed.parent):
        assert_is_truth(place, truth, affine)
        assert unpacked == [packed]
        unpacked.clear()


def test_gzipped_files_that_cannot_be_unpacked_are_named(tmp_path, truth):
    write_folder(tmp_path / "in", truth)
    (tmp_path / "in" / "cut.gz").write_bytes(gzip.compress(truth.tobytes())[:-20])
    (tmp_path / "in" / "bomb.dcm.gz").write_bytes(gzip.compress(bytes(64 << 20)))
    with open_study(tmp_path / "in") as study:
        broken = {Path(error.where).name: error for error in study.broken}
    assert broken.keys() == {"cut.gz", "bomb.dcm.gz"}
    with pytest.raises(DataError, match=r"bomb\.dcm\.gz: unpacks to far more than it should"):
        read(tmp_path / "in" / "bomb.dcm.gz")


def test_together_gzipped_files_unpack_to_no_more_than_allowed(tmp_path, truth):
    write_folder(tmp_path, truth)
    for path in list(tmp_path.iterdir()):
        size = path.stat().st_size
        path.with_name(f"{path.name}.dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    study, _ = read(tmp_path, limits=ArchiveLimits(total_bytes=4 * size))
    assert len(study) == 4 and len(study.broken) == 2


@pytest.mark.parametrize("lost", ["RescaleIntercept", "RescaleSlope"])
def test_a_slice_without_a_rescale_takes_that_of_the_others(tmp_path, truth, affine, lost):
    stored = (truth.astype(np.int32) + 1000).clip(0).astype(np.uint16)
    for k, level in enumerate(stored):
        elements = {"RescaleSlope": 2, "RescaleIntercept": -1000}
        write_slice(
            tmp_path / f"{k}",
            level // 2,
            ImagePositionPatient=[*ORIGIN[:2], ORIGIN[2] + SPACING[2] * k],
            PixelSpacing=list(SPACING[:2]),
            **{**elements, **({lost: None} if k == 2 else {})},
        )
    assert_is_truth(tmp_path, (truth + 1000).clip(0) // 2 * 2 - 1000, affine)


SHARED_BY_ALL = (*("PixelSpacing", "SliceThickness", "StudyInstanceUID", "PatientID"),)


@pytest.mark.parametrize("silent", [(0, 5), (0, 1, 2), (1, 2, 3, 4)])
def test_what_a_scan_shares_is_what_its_slices_agree_on(tmp_path, truth, affine, silent):
    """Some say nothing, one says something else: neither the first nor the last decides."""
    write_folder(tmp_path, truth)
    files = sorted(tmp_path.iterdir(), reverse=True)
    for k, path in enumerate(files):
        dataset = pydicom.dcmread(path)
        dataset.SliceThickness = 2.5
        if k in silent:
            for keyword in SHARED_BY_ALL:
                del dataset[keyword]
        dataset.save_as(path)
    study, _ = read(tmp_path)
    assert_is_truth(tmp_path, truth, affine)
    assert study.thickness_mm == 2.5
    assert (study.study_uid, study.patient_id) == ("1.2.826.0.1.1", "P1")


def test_one_header_that_differs_decides_nothing(tmp_path, truth, affine):
    write_folder(tmp_path, truth)
    first = tmp_path / "D6"
    dataset = pydicom.dcmread(first)
    dataset.StudyInstanceUID, dataset.SliceThickness = "9.9", 40.0
    dataset.save_as(first)
    for path in (tmp_path / f"D{k}" for k in range(1, 6)):
        dataset = pydicom.dcmread(path)
        dataset.SliceThickness = 2.5
        dataset.save_as(path)
    study, _ = read(tmp_path)
    assert study.study_uid == "1.2.826.0.1.1" and study.thickness_mm == 2.5
