"""One case: every number against MONAI, SimpleITK or a count by hand."""

from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import DiceMetric
from painted_masks import SPACING, affine_lps, blocks, save_nifti

from pe_unified.errors import DataError
from pe_unified.evaluation.marks import FileMarks
from pe_unified.evaluation.masks.case_files import Predicted
from pe_unified.evaluation.masks.case_score import score_case
from pe_unified.evaluation.masks.rules import Rules

TRUTH = blocks(((1, 2, 3), (3, 5, 6)), ((7, 14, 8), (3, 6, 5)), ((10, 1, 1), (1, 1, 2)))
FOUND = blocks(((2, 3, 3), (3, 5, 6)), ((2, 18, 15), (2, 3, 3)), ((6, 2, 12), (1, 2, 2)))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return save_nifti(tmp_path_factory.mktemp("truth") / "c1.nii.gz", TRUTH)


def scored(reference, predicted, **rules):
    if not isinstance(predicted, Predicted):
        predicted = Predicted(mask=predicted)
    (found,) = score_case("c1", reference, [predicted], Rules(**rules))
    return found


def test_masks_by_hand_and_by_others(reference, tmp_path):
    found = scored(reference, save_nifti(tmp_path / "p.nii.gz", FOUND))
    truth, predicted = TRUTH > 0, FOUND > 0
    tensors = [torch.from_numpy(mask)[None, None] for mask in (predicted, truth)]
    assert found.mask.dice == pytest.approx(float(DiceMetric()(*tensors)))
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(*[sitk.GetImageFromArray(m.astype(np.uint8)) for m in (predicted, truth)])
    assert found.mask.dice == pytest.approx(measures.GetDiceCoefficient())
    voxel = np.prod(SPACING)
    assert found.mask.volume_error_ml == pytest.approx(
        (predicted.sum() - truth.sum()) * voxel / 1000
    )
    np.testing.assert_allclose(found.volumes_mm3, np.array([90, 90, 2]) * voxel)
    # The third lesion, of 2.2 mm3, is not counted.
    assert found.counted.tolist() == [True, True, False]
    assert found.mask.found.tolist() == [True, False] and found.mask.false == 2
    assert found.confidences.tolist() == [1, 1, 1] and not found.scored
    assert (found.distances_mm[:, 0] == 0).tolist() == [True, False, False]


def test_what_lies_on_a_small_lesion_alone_is_neither_true_nor_false(reference, tmp_path):
    speck = save_nifti(tmp_path / "p.nii.gz", blocks(((10, 1, 1), (1, 1, 1))))
    found = scored(reference, speck)
    assert found.mask.false == 0 and not found.mask.found.any()
    counted = scored(reference, speck, smallest_mm3=0.0)
    assert counted.mask.found.tolist() == [False, False, True]


@pytest.mark.parametrize("kind", ["nifti", "nnunet", "nnunet alone"])
def test_probabilities_of_any_kind(reference, tmp_path, kind):
    probability = np.where(FOUND > 0, 0.7, 0.01).astype(np.float32)
    probability[3, 4, 5], probability[2, 19, 16] = 0.96, 0.4
    probability[6] *= 0.5  # below the threshold of the mask
    predicted = {}
    if kind == "nifti":
        predicted["mask"] = save_nifti(tmp_path / "p.nii.gz", probability)
    else:
        both = np.stack([1 - probability, probability])
        predicted["probabilities"] = tmp_path / "p.npz"
        np.savez_compressed(predicted["probabilities"], probabilities=both)
        if kind == "nnunet":
            mask = (probability >= 0.5).astype(np.uint8)
            predicted["mask"] = save_nifti(tmp_path / "p.nii.gz", mask)
    found = scored(reference, Predicted(**predicted), mark_threshold=0.3)
    assert found.scored and found.mask.components == 2
    np.testing.assert_allclose(sorted(found.confidences), [0.35, 0.7, 0.96], rtol=1e-6)
    best = found.distances_mm[found.confidences.argmax()]
    assert best[0] == 0 and best[1] > 5


def test_files_stored_the_other_way_and_other_formats(reference, tmp_path):
    expected = scored(reference, save_nifti(tmp_path / "p.nii.gz", FOUND)).mask
    image = nibabel.load(tmp_path / "p.nii.gz")
    turned = image.as_reoriented(nibabel.orientations.axcodes2ornt("SPL"))
    nibabel.save(turned, tmp_path / "turned.nii")
    affine = affine_lps()
    header = {
        "space": "left-posterior-superior",
        "space directions": affine[:3, :3].T,
        "space origin": affine[:3, 3],
    }
    nrrd.write(str(tmp_path / "p.nrrd"), FOUND.T.copy(), header)
    for name in ("turned.nii", "p.nrrd"):
        found = scored(reference, tmp_path / name)
        assert found.mask.intersection == expected.intersection and found.notes == ()
        assert found.mask.surface == expected.surface


def test_a_grid_of_its_own_is_taken_by_nearest_voxels_and_noted(reference, tmp_path):
    """Twice as fine along the rows."""
    fine = np.repeat(FOUND, 2, axis=1)
    affine = affine_lps((SPACING[0], SPACING[1] / 2, SPACING[2]))
    affine[1, 3] -= SPACING[1] / 4
    found = scored(reference, save_nifti(tmp_path / "fine.nii.gz", fine, affine))
    expected = scored(reference, save_nifti(tmp_path / "p.nii.gz", FOUND))
    assert found.mask.intersection == expected.mask.intersection
    assert found.notes == (
        "resampled (nearest voxel) from another grid, 12 x 48 x 20 of 2 x 0.35 x 0.8 mm",
    )


def test_what_does_not_lie_there_is_refused_with_the_cure(reference, tmp_path):
    far = affine_lps(origin=(500.0, 0.0, 0.0))
    with pytest.raises(DataError, match="does not overlap the reference"):
        scored(reference, save_nifti(tmp_path / "far.nii.gz", FOUND, far))
    lost = save_nifti(tmp_path / "lost.nii.gz", FOUND, np.diag([-1.0, -1, 1, 1]))
    with pytest.raises(DataError, match=r"not 2 x 0\.7 x 0\.8.*--by-index"):
        scored(reference, lost)
    nrrd.write(str(tmp_path / "bare.nrrd"), FOUND.T[:-1].copy(), {"spacings": [0.8, 0.7, 2.0]})
    with pytest.raises(DataError, match="and no header gives the position"):
        scored(reference, tmp_path / "bare.nrrd")
    nrrd.write(str(tmp_path / "bare.nrrd"), FOUND.T.copy(), {"spacings": [0.8, 0.7, 2.0]})
    noted = scored(reference, tmp_path / "bare.nrrd")
    assert "paired by index" in noted.notes[0]
    assert noted.mask.intersection == ((TRUTH > 0) & (FOUND > 0)).sum()
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes((tmp_path / "far.nii.gz").read_bytes()[:200])
    with pytest.raises(DataError, match=r"damaged\.nii\.gz"):
        scored(reference, damaged)


def test_by_index_pairs_voxels_whatever_headers_say(tmp_path):
    """Also where the reference's file runs the other way."""
    reference = save_nifti(tmp_path / "t.nii.gz", TRUTH)
    image = nibabel.load(reference)
    nibabel.save(image.as_reoriented([[0, 1], [1, 1], [2, -1]]), tmp_path / "down.nii.gz")
    stored = np.asarray(nibabel.load(tmp_path / "down.nii.gz").dataobj)
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), tmp_path / "p.nii.gz")
    found = scored(tmp_path / "down.nii.gz", tmp_path / "p.nii.gz", by_index=True)
    assert found.mask.dice == 1


def test_probabilities_beside_the_mask_of_another_case_are_refused(reference, tmp_path):
    mask = save_nifti(tmp_path / "p.nii.gz", FOUND)
    flipped = (FOUND[::-1] > 0).astype(np.float32)
    np.savez_compressed(tmp_path / "p.npz", probabilities=np.stack([1 - flipped, flipped]))
    with pytest.raises(DataError, match=r"has a probability of 0\.5 or more"):
        scored(reference, Predicted(mask=mask, probabilities=tmp_path / "p.npz"))
    np.savez_compressed(tmp_path / "p.npz", softmax=flipped)
    with pytest.raises(DataError, match="--save_probabilities"):
        scored(reference, Predicted(mask=mask, probabilities=tmp_path / "p.npz"))
    wrong = save_nifti(tmp_path / "q.nii.gz", 3.5 * flipped)
    with pytest.raises(DataError, match="neither labels nor probabilities"):
        scored(reference, wrong)
    with pytest.raises(DataError, match="were the folders swapped"):
        scored(save_nifti(tmp_path / "r.nii.gz", 0.5 * flipped), mask)


def test_instances_are_the_numbers_of_the_reference(tmp_path):
    labels = blocks(((1, 2, 3), (3, 5, 6)), ((1, 7, 3), (3, 5, 6)), dtype=np.int16)  # touching
    labels[9, 9, 9:18] = 1
    reference = save_nifti(tmp_path / "t.nii.gz", labels)
    predicted = save_nifti(tmp_path / "p.nii.gz", blocks(((9, 9, 9), (1, 1, 9))))
    assert scored(reference, predicted, instances=True).mask.found.tolist() == [True, False]
    assert scored(reference, predicted).mask.found.tolist() == [False, True]


def test_pixels_of_marks_are_those_of_the_references_file(reference, tmp_path):
    """The file runs from left to right and from back to front; columns and rows are counted so."""
    image = nibabel.load(reference)
    nibabel.save(image.as_reoriented([[0, -1], [1, -1], [2, 1]]), tmp_path / "turned.nii")
    _, rows, cols = TRUTH.shape
    middle = (8, 16, 10)  # of the second lesion: slice, row, col
    places = np.array([[cols - 1 - middle[2], rows - 1 - middle[1], middle[0]]], float)
    for file, at in ((tmp_path / "turned.nii", places), (reference, places * 0 + middle[::-1])):
        marks = FileMarks(at, np.array([0.8]), "pixel", scored=True)
        found = scored(file, Predicted(marks=marks))
        assert found.mask is None and found.scored and found.outside == 0
        assert (found.distances_mm == 0).tolist() == [[False, True, False]]


def test_a_seg_of_dicom(reference, tmp_path, seg_of):
    path = seg_of(FOUND, tmp_path / "p.dcm")
    found = scored(reference, path)
    expected = scored(reference, save_nifti(tmp_path / "p.nii.gz", FOUND))
    assert found.mask.intersection == expected.mask.intersection
    assert found.mask.predicted == expected.mask.predicted


def test_a_reference_as_seg_counts_what_is_found_beyond_its_frames(reference, tmp_path, seg_of):
    """It has frames only where it shows a lesion; predictions on all other slices are false."""
    seg = seg_of(TRUTH, tmp_path / "r.dcm")
    beyond = FOUND.copy()
    beyond[0, 2:4, 2:4] = 1
    assert not TRUTH[0].any() and not FOUND[0].any()
    path = save_nifti(tmp_path / "p.nii.gz", beyond)
    found, expected = scored(seg, path), scored(reference, path)
    assert expected.mask.false == 3  # two are without it
    for name in ("intersection", "predicted", "reference", "false", "components"):
        assert getattr(found.mask, name) == getattr(expected.mask, name), name
    only = np.zeros_like(FOUND)
    only[0, 2:4, 2:4] = 1
    packed = tmp_path / "o.nrrd"  # gzip, unpacked to read it
    sitk.WriteImage(sitk.ReadImage(str(save_nifti(tmp_path / "o.nii", only))), str(packed), True)
    for alone in (tmp_path / "o.nii", packed, seg_of(only, tmp_path / "o.dcm")):
        assert scored(seg, alone).mask.false == 1
    header = affine_lps(spacing=(*SPACING[:2], 2 * SPACING[2]))
    same_shape = TRUTH[1:11]  # from the first to the last frame
    with pytest.raises(DataError, match="as many voxels as the reference, but a spacing"):
        scored(seg, save_nifti(tmp_path / "lost.nii", same_shape, header))


def test_marks_beyond_a_cut_reference_are_false_and_not_outside(reference, tmp_path):
    """Pixels are those of its file, also where a mask beside the marks is of the whole scan."""
    affine, first = affine_lps(), np.array([1, 2, 3])  # slice, row, col of its first lesion
    cut = tmp_path / "r.seg.nrrd"
    header = {
        "space": "left-posterior-superior",
        "space directions": affine[:3, :3].T,
        "space origin": (affine @ [*first[::-1], 1])[:3],
    }
    nrrd.write(str(cut), TRUTH[1:4, 2:7, 3:9].T.copy(), header)
    marks = FileMarks(np.array([[0.0, 0, 0], [15, 15, 8]]), np.array([0.9, 0.8]), "pixel", True)
    mask = save_nifti(tmp_path / "p.nii.gz", FOUND)
    for predicted in (Predicted(marks=marks), Predicted(mask=mask, marks=marks)):
        found = scored(cut, predicted)
        assert (found.distances_mm == 0).tolist() == [[True], [False]] and found.outside == 0


def test_a_scan_in_place_of_a_prediction_is_refused(reference, tmp_path):
    scan = np.where(FOUND > 0, 60, -900).astype(np.int16)
    for kind in (np.int16, np.float32):
        path = save_nifti(tmp_path / "c1.nii.gz", scan.astype(kind))
        with pytest.raises(DataError, match=r"c1\.nii\.gz: negative labels, down to -900"):
            scored(reference, path)


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_identity_and_exchange(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("random")
    masks = [blocks((tuple(rng.integers(0, 8, 3)), (3, 6, 7))) for _ in range(2)]
    paths = [save_nifti(folder / f"{k}.nii", mask) for k, mask in enumerate(masks)]
    same = scored(paths[0], paths[0]).mask
    assert same.dice == 1 and same.surface.assd_mm == 0 and same.found.all() and not same.false
    there, back = scored(*paths).mask, scored(*paths[::-1]).mask
    assert there.dice == back.dice
    assert there.surface.assd_mm == pytest.approx(back.surface.assd_mm)


@pytest.fixture
def seg_of():
    """Writes a volume (slices, rows, cols) of numbered segments as DICOM SEG."""
    import highdicom as hd
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.sr.codedict import codes
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    def write(labels: np.ndarray, path: Path) -> Path:
        segments = [
            hd.seg.SegmentDescription(
                number,
                f"lesion {number}",
                codes.SCT.MorphologicallyAbnormalStructure,
                codes.SCT.Embolus,
                hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            )
            for number in range(1, labels.max() + 1)
        ]
        slices = []
        for k in range(len(labels)):
            one = Dataset()
            one.file_meta = FileMetaDataset()
            one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, f"1.2.3.{k + 1}"
            one.StudyInstanceUID, one.SeriesInstanceUID = "1.2.3", "1.2.4"
            one.FrameOfReferenceUID, one.Modality = "1.2.5", "CT"
            one.PatientID = one.PatientName = one.PatientBirthDate = one.PatientSex = ""
            one.StudyDate = one.StudyTime = one.AccessionNumber = one.StudyID = ""
            one.ReferringPhysicianName = ""
            one.Rows, one.Columns = labels.shape[1:]
            one.ImagePositionPatient = list(affine_lps()[:3] @ [0, 0, k, 1])
            one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            one.PixelSpacing, one.SliceThickness = [SPACING[1], SPACING[2]], SPACING[0]
            slices.append(one)
        hd.seg.Segmentation(
            slices,
            labels.astype(np.uint8),
            hd.seg.SegmentationTypeValues.BINARY,
            segments,
            series_instance_uid="1.2.6",
            series_number=1,
            sop_instance_uid="1.2.7",
            instance_number=1,
            manufacturer="test",
            manufacturer_model_name="test",
            software_versions="1",
            device_serial_number="1",
        ).save_as(path)
        return path

    return write


def test_rules_tell_what_they_are():
    words = " ".join(Rules(connectivity=6, smallest_mm3=3.5, epsilons_mm=(0.0, 7.0)).in_words())
    assert "6-connected" in words and "3.5 mm3" in words and "(0, 7 mm)" in words
