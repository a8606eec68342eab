"""Emboli in files of masks, whoever wrote them: SEG, RTSTRUCT, 3D Slicer, ITK, plain volumes."""

import nibabel
import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Outline
from own_folder import (
    save_metaimage,
    save_nifti,
    save_rtstruct,
    save_seg,
    save_slicer,
    write_study,
)

from pe_unified.ct.contours import read_contours
from pe_unified.ct.mask_volumes import read_mask_volume
from pe_unified.ct.overlay import nearest_voxels
from pe_unified.ct.segments import choose_emboli, read_emboli
from pe_unified.errors import DataError


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of DICOM slices, its mask, and a structure beside it that is no embolus."""
    study, mask = write_study(tmp_path_factory.mktemp("study"), "S1")
    lungs = np.zeros_like(mask)
    lungs[2:6, 8:40, 4:44] = 1
    return study, mask, lungs


def on_study(volume, study):
    """What a file holds, on the slices of the study, by geometry alone."""
    return nearest_voxels(volume.values, volume.slices.affine, study)


def test_structures_are_chosen_by_name(tmp_path):
    names = {1: "Lung", 2: "PE 1", 3: "Thrombus links", 4: "Aorta", 5: "pericardium"}
    assert choose_emboli(names, (), tmp_path) == [2, 3]
    assert choose_emboli(names, ["aorta"], tmp_path) == [4]
    assert choose_emboli({7: "Segment_1"}, (), tmp_path) == [7]
    with pytest.raises(DataError, match=r"named clot among 5; .*there are: Lung, PE 1"):
        choose_emboli(names, ["clot"], tmp_path)
    with pytest.raises(DataError, match="whose name means an embolus among 2"):
        choose_emboli({1: "Lung", 2: "Aorta"}, (), tmp_path)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".seg.nrrd", ".dcm"])
@pytest.mark.parametrize("others", [False, True])
def test_every_format_gives_the_same_voxels(study, tmp_path, ending, others):
    ct, mask, lungs = study
    path = tmp_path / f"mask{ending}"
    structures = {"Lungs": lungs, "Embolus": mask} if others else {"Anything": mask}
    if ending == ".dcm":
        save_seg(path, structures, ct.files)
    elif ending == ".seg.nrrd":
        save_slicer(path, structures, ct)
    elif others:
        pytest.skip("numbers have no names")
    elif ending == ".nii.gz":
        save_nifti(path, mask, ct, ras=True)
    else:
        save_metaimage(path, mask, ct)
    assert np.array_equal(on_study(read_emboli(path, tmp_path), ct) > 0, mask > 0)


def test_segments_of_slicer_that_overlap_lie_in_layers(study, tmp_path):
    ct, mask, _ = study
    around = np.maximum(mask, np.roll(mask, 1, axis=1))
    path = save_slicer(tmp_path / "two.seg.nrrd", {"Vessels": around, "Embolie": mask}, ct)
    found = read_emboli(path, tmp_path)
    assert set(np.unique(found.array)) == {0, 2}
    assert np.array_equal(on_study(found, ct) > 0, mask > 0)
    (tmp_path / "again").mkdir()
    found = read_emboli(path, tmp_path / "again", ["vessels"])
    assert np.array_equal(on_study(found, ct) > 0, around > 0)


def test_numbers_of_a_plain_mask_are_chosen(study, tmp_path):
    ct, mask, lungs = study
    values = np.where(mask > 0, 3, lungs).astype(np.uint8)
    path = save_nifti(tmp_path / "labels.nii.gz", values, ct)
    for asked in (["3"], ["Embolus", "3"]):
        found = read_emboli(path, tmp_path, asked)
        assert np.array_equal(found.values > 0, mask > 0) and found.others == ()
    found = read_emboli(path, tmp_path, ["2"])
    assert not found.array.any() and found.others == (1, 3)
    with pytest.raises(DataError, match="in which nothing is named embolus; give its numbers"):
        read_emboli(path, tmp_path, ["embolus"])
    nibabel.save(nibabel.Nifti1Image(values / 7, np.eye(4)), path)
    with pytest.raises(DataError, match="values with fractions"):
        read_emboli(path, tmp_path)


def test_a_slice_is_no_mask(study, tmp_path):
    ct, _, _ = study
    with pytest.raises(DataError, match="modality CT, no mask"):
        read_emboli(ct.files[0], tmp_path)


def test_metaimage_masks_are_read_beside_others(study, tmp_path):
    """As pe-unified evaluate takes them; packed far better than a CT."""
    ct, _, _ = study
    empty = np.zeros(ct.shape, np.uint8)
    volume = read_mask_volume(save_metaimage(tmp_path / "m.mha", empty, ct), tmp_path)
    assert volume.values.shape == ct.shape and not volume.values.any()


def test_contours_enclose_the_mask(study, tmp_path):
    ct, mask, lungs = study
    ring = mask.copy()
    ring[2, 3:20, 3:20] = 1
    ring[2, 8:15, 8:15] = 0
    path = save_rtstruct(tmp_path / "rs.dcm", {"Lung": lungs, "PE": ring}, ct)
    found, notes = read_contours(path, ct)
    assert np.array_equal(found > 0, ring > 0) and notes == []
    assert set(np.unique(found)) == {0, 2}


def test_a_polygon_holds_the_pixels_whose_centres_it_holds(study, tmp_path):
    """Against matplotlib, whose answer does not depend on rows and columns."""
    ct, mask, _ = study
    path = save_rtstruct(tmp_path / "rs.dcm", {"PE": mask}, ct)
    corners = np.array([[4.3, 5.2], [20.6, 9.1], [13.7, 30.4], [11.2, 14.9]])  # row, col
    ds = pydicom.dcmread(path)
    points = ct.positions_mm(np.insert(corners, 0, 5, axis=1))
    ds.ROIContourSequence[0].ContourSequence = ds.ROIContourSequence[0].ContourSequence[:1]
    ds.ROIContourSequence[0].ContourSequence[0].ContourData = points.round(4).ravel().tolist()
    ds.save_as(path)
    found, _ = read_contours(path, ct)
    pixels = np.argwhere(np.ones(ct.shape[1:]))
    expected = Outline(corners).contains_points(pixels).reshape(ct.shape[1:])
    assert np.array_equal(found[5] > 0, expected) and expected.sum() > 50
    assert not np.delete(found, 5, axis=0).any()


def test_contours_of_thicker_slices_reach_half_way(study, tmp_path):
    ct, _, lungs = study
    block = np.zeros_like(lungs)
    block[2:7, 10:20, 10:20] = 1
    path = save_rtstruct(tmp_path / "rs.dcm", {"PE": block}, ct, every=2)  # slices 2, 4, 6
    found, (note,) = read_contours(path, ct)
    assert "contours every 5 mm, slices every 2.5 mm" in note
    assert found[:, 15, 15].tolist() == [0, 1, 1, 1, 1, 1, 1, 1]


def test_contours_of_single_slices_stay_on_them(study, tmp_path):
    ct, _, lungs = study
    spots = np.zeros_like(lungs)
    spots[[2, 5], 10:20, 10:20] = 1
    found, notes = read_contours(save_rtstruct(tmp_path / "rs.dcm", {"PE": spots}, ct), ct)
    assert np.array_equal(found, spots) and notes == []


def test_damaged_contours_are_refused(study, tmp_path):
    ct, mask, _ = study
    path = save_rtstruct(tmp_path / "rs.dcm", {"PE": mask}, ct)
    ds = pydicom.dcmread(path)
    contour = ds.ROIContourSequence[0].ContourSequence[0]
    contour.ContourGeometricType = "OPEN_PLANAR"
    ds.save_as(path)
    with pytest.raises(DataError, match="OPEN_PLANAR, which encloses nothing"):
        read_contours(path, ct)
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.ContourData = [0, 0, 0, 5, 0, 10, 0, 5, 20]
    ds.save_as(path)
    with pytest.raises(DataError, match="does not lie in the planes of the slices"):
        read_contours(path, ct)
    del ds.StructureSetROISequence
    ds.save_as(path)
    with pytest.raises(DataError, match="no readable RTSTRUCT"):
        read_contours(path, ct)
