"""Where masks lie: by headers, by index, as mirror images; and whether the HU agree."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
from own_folder import save_nifti, save_slicer, write_study
from scipy import ndimage
from studies import study_of

from pe_unified.converters.own.fit import fit_of
from pe_unified.converters.own.masks import lay_masks
from pe_unified.converters.own.placing import MIRROR_IMAGES, Placing, laid_by_headers
from pe_unified.ct.mask_volumes import MaskVolume, read_mask_volume
from pe_unified.errors import DataError


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"), "S1")


def lay(path, study, tmp_path, placed="", check=True):
    scratch = tmp_path / f"scratch{len(list(tmp_path.iterdir()))}"
    scratch.mkdir()
    return lay_masks([path], study, placed, (), check, scratch)


@pytest.mark.parametrize("image", MIRROR_IMAGES, ids=lambda image: image.words or "right")
def test_a_mirrored_mask_is_refused_and_its_cure_works(study, tmp_path, image):
    ct, mask = study
    path = save_nifti(tmp_path / "m.nii.gz", image.turned(mask), ct)
    laid = lay(path, ct, tmp_path)
    assert laid.better == image.words and bool(laid.reasons) == bool(image.words)
    if image.words:
        assert np.array_equal(laid.better_values > 0, mask > 0)
    mended = lay(path, ct, tmp_path, image.words)
    assert not mended.reasons and np.array_equal(mended.values > 0, mask > 0)


def test_a_mask_that_was_right_as_it_was_is_placed_by_nothing(study, tmp_path):
    ct, mask = study
    path = save_nifti(tmp_path / "m.nii.gz", mask, ct)
    for placed in ("left-right", "up-down front-back"):
        laid = lay(path, ct, tmp_path, placed)
        assert laid.reasons and laid.better == "" and laid.better_values is not None
        assert np.array_equal(laid.better_values > 0, mask > 0)


def test_a_mask_of_other_numbers_says_which(study, tmp_path):
    ct, mask = study
    path = save_nifti(tmp_path / "m.nii.gz", mask * 255, ct)
    laid = lay_masks([path], ct, "", ("Embolus", "1", "2"), True, tmp_path)
    assert not laid.values.any() and laid.empty == "the mask has 255, but no 1 or 2"
    assert lay(path, ct, tmp_path).values.any()


def test_a_mask_of_another_place_is_refused_without_a_cure(study, tmp_path):
    ct, mask = study
    path = save_nifti(tmp_path / "m.nii.gz", np.roll(mask, 20, axis=(1, 2)), ct)
    laid = lay(path, ct, tmp_path)
    assert "mean -8" in laid.reasons[0] and laid.better == "" and laid.better_values is None
    assert not lay(path, ct, tmp_path, "unchecked").reasons
    assert not lay(path, ct, tmp_path, check=False).reasons


def test_a_mask_whose_header_was_lost_fits_by_index(study, tmp_path):
    ct, mask = study
    path = tmp_path / "m.nii.gz"
    save_nifti(path, mask, ct)
    volume = read_mask_volume(path, tmp_path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(volume.array), np.eye(4)), path)
    laid = lay(path, ct, tmp_path)
    assert "of the mask lies outside the scan" in laid.reasons[0] and laid.better == "index"
    assert np.array_equal(lay(path, ct, tmp_path, "index").values > 0, mask > 0)
    with pytest.raises(DataError, match="write any of index, up-down"):
        lay(path, ct, tmp_path, "index upside-down")


def test_a_mask_that_does_not_say_how_it_lies_is_laid_by_index(study, tmp_path):
    ct, mask = study
    image = nibabel.Nifti1Image(np.ascontiguousarray(mask.T), np.eye(4))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "m.nii")
    laid = lay(tmp_path / "m.nii", ct, tmp_path)
    assert np.array_equal(laid.values, mask) and "laid voxel on voxel" in laid.notes[0]
    nibabel.save(nibabel.Nifti1Image(image.dataobj[:-1], None), tmp_path / "m.nii")
    with pytest.raises(DataError, match=r"a mask of \(47, 48, 8\) voxels"):
        lay(tmp_path / "m.nii", ct, tmp_path)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_other_grids_are_laid_by_nearest_voxels(study, tmp_path, factor):
    """Against a mask resampled by SciPy about the same centre."""
    ct, mask = study
    affine = ct.affine_lps()
    other = affine.copy()
    other[:3, :3] *= factor
    other[:3, 3] += affine[:3, :3] @ np.full(3, (factor - 1) / 2)
    values = ndimage.zoom(mask, 1 / factor, order=0, mode="grid-constant", grid_mode=True)
    laid, (note,) = laid_by_headers(MaskVolume(tmp_path, values.T, other), ct)
    back = ndimage.zoom(values, factor, order=0, mode="grid-constant", grid_mode=True)
    if factor < 1:
        assert np.array_equal(laid, mask)
    assert np.array_equal(laid, back) and "another grid" in note


def test_slices_above_a_gap_are_no_other_place(study, tmp_path):
    """Five slices are missing below the emboli, and the mask has them."""
    ct, mask = study
    places = ct.places_mm + np.outer(np.arange(8) >= 4, [0, 0, 5 * 2.5])
    whole = np.insert(mask[::-1], [4] * 5, 0, axis=0)
    volume = MaskVolume(tmp_path, whole.T, ct.affine_lps())
    laid, _ = laid_by_headers(volume, replace(ct, places_mm=places, missing_slices=5))
    assert np.array_equal(laid, mask[::-1])


def test_a_turned_grid_is_no_other_grid(study, tmp_path):
    """The scan of a patient on the belly, whose mask was saved as if on the back."""
    ct, mask = study
    prone = replace(ct, direction=ct.direction @ np.diag([-1, -1, 1]))
    affine = prone.affine_lps() @ np.diag([-1, -1, 1, 1])
    affine[:3, 3] = prone.position_mm(0, 47, 47)
    laid, notes = laid_by_headers(MaskVolume(tmp_path, mask[:, ::-1, ::-1].T, affine), prone)
    assert np.array_equal(laid, mask) and notes == []


def test_a_part_of_the_grid_is_no_other_grid(study, tmp_path):
    ct, mask = study
    path = save_slicer(tmp_path / "m.seg.nrrd", {"PE": mask}, ct)
    laid = lay(path, ct, tmp_path)
    assert np.array_equal(laid.values > 0, mask > 0) and laid.notes == ()


def test_words_name_a_placing_and_back():
    for words in ("", "index", "left-right", "index up-down front-back left-right"):
        assert Placing.of_words(words, "").words == words
    turned = Placing.of_words("up-down", "").mirrored(Placing.of_words("left-right up-down", ""))
    assert turned.words == "left-right"


def test_a_mask_that_could_be_right_is_refused_for_a_better_mirror_image():
    """Two thirds of the mask lie in tissue between contrast, all of its mirror image."""
    hu = np.full((6, 40, 40), 50, np.int16)
    hu[:, 10:30] = 320
    mask = np.zeros(hu.shape, np.uint8)
    mask[2:4, 14:26, 4:13] = 1
    hu[mask > 0] = 60
    hu[:, 14:26, 27:33] = 60
    ct = study_of(hu)
    assert fit_of(mask, ct).reasons == ()
    fit = fit_of(mask[:, :, ::-1], ct)
    assert fit.better.words == "left-right" and "100% of its mirror image" in fit.reasons[0]


def test_several_masks_are_one_whose_emboli_stay_apart(study, tmp_path):
    ct, mask = study
    halves = [np.where(np.arange(8)[:, None, None] < 2, mask, 0), mask]
    paths = [save_nifti(tmp_path / f"{n}.nii.gz", each, ct) for n, each in enumerate(halves)]
    laid = lay_masks(paths, ct, "", (), True, tmp_path)
    assert np.array_equal(laid.values, np.where(halves[0], 1, mask * 2)) and not laid.reasons


def test_no_mask_fits(study):
    ct, mask = study
    assert fit_of(np.zeros_like(mask), ct).reasons == ()
