"""The 35 real masks of FUMPE, packed into the set's layout with painted slices."""

from functools import cache

import nibabel
import numpy as np
import pytest
from dicom_files import slice_dataset
from pydicom.uid import RLELossless
from raw_sets import CONTRAST, EMBOLUS, LUNG, all_images
from scipy import ndimage
from scipy.io import savemat

from pe_unified.converters.contract.schema import annotations_of_mask, decode_mask, union_mask
from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults
from pe_unified.converters.raw.fumpe import Fumpe
from pe_unified.converters.verify import verify
from pe_unified.ct.hu import read_slice_png

PATIENTS = [f"PAT{k:03d}" for k in range(1, 36)]
EMPTY = {"PAT024", "PAT032"}


def real_mask(shared_data, name):
    """uint8 (rows, cols, slices). The NIfTI files keep columns first (their first axis runs
    along the patient's x); the set's MATLAB files keep rows first."""
    image = nibabel.load(shared_data / "fumpe_masks" / f"{name}.nii.gz")
    return np.asanyarray(image.dataobj).transpose(1, 0, 2)


def count_3d(mask):
    """26-connected components, within the box of the mask."""
    if not mask.any():
        return 0
    flat = mask.any(axis=2)
    ends = [np.flatnonzero(line)[[0, -1]] for line in (flat.any(1), flat.any(0))]
    window = tuple(slice(first, last + 1) for first, last in ends)
    return ndimage.label(mask[window], np.ones((3, 3, 3)))[1]


@cache
def counted(shared_data, name):
    """Slices, positive slices, 2D and 3D components of a patient, every annotation checked.

    Kept by each process: whichever tests it was given, none counts a patient twice.
    """
    mask = real_mask(shared_data, name)
    positive = components = 0
    for k in range(mask.shape[2]):
        level = mask[:, :, k]
        annotations = annotations_of_mask(level)
        if not level.any():
            assert annotations == []
            continue
        np.testing.assert_array_equal(union_mask(annotations), level)
        assert sum(item["area"] for item in annotations) == level.sum()
        for item in annotations:
            x, y, w, h = item["bbox"]
            own = decode_mask(item["segmentation"])[y : y + h, x : x + w]
            assert own.sum() == item["area"] and own.any(0).all() and own.any(1).all()
        positive += 1
        components += len(annotations)
    return mask.shape[2], positive, components, count_3d(mask)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if number % 5 == 0 else pytest.mark.slow)
        for number, name in enumerate(PATIENTS)
    ],
)
def test_every_component_survives(shared_data, name):
    _, positive, _, _ = counted(shared_data, name)
    assert (positive == 0) == (name in EMPTY)


@pytest.mark.slow
def test_nothing_of_the_set_is_lost(shared_data):
    totals = np.sum([counted(shared_data, name) for name in PATIENTS], axis=0)
    assert totals.tolist() == [8792, 2301, 3779, 95]


class Packer:
    """Writes real masks in FUMPE's layout: emboli of 60 HU in contrast in lung."""

    def __init__(self, raw):
        self.raw = raw
        self.plain = self.compressed(np.full((512, 512), LUNG, np.int16))

    def compressed(self, hu):
        dataset = slice_dataset(hu, RescaleIntercept=0)
        dataset.compress(RLELossless)
        return dataset

    def hu_of(self, level):
        hu = np.full((512, 512), LUNG, np.int16)
        if level.any():
            hu[ndimage.binary_dilation(level, iterations=4)] = CONTRAST
            hu[level > 0] = EMBOLUS
        return hu

    def pack(self, name, mask, reverse):
        folder = self.raw / "CT_scans" / name
        folder.mkdir(parents=True)
        count = mask.shape[2]
        for k in range(count):
            level = mask[:, :, k]
            dataset = self.compressed(self.hu_of(level)) if level.any() else self.plain
            dataset.SOPInstanceUID = f"1.2.{name[3:].lstrip('0')}.{k + 1}"
            dataset.StudyInstanceUID = f"1.2.{name[3:].lstrip('0')}"
            dataset.InstanceNumber = count - k
            z = -k if reverse else k
            dataset.ImagePositionPatient = [0, 0, 1.25 * z]
            dataset.save_as(folder / f"D{k + 1}.dcm", enforce_file_format=True)
        (self.raw / "GroundTruth").mkdir(exist_ok=True)
        path = self.raw / "GroundTruth" / f"{name}.mat"
        savemat(path, {"Mask": mask}, do_compression=True)


def pack_and_convert(shared_data, tmp_path, names, workers=1):
    """Returns (slices, positive slices, annotations) after checking every pixel."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    packer = Packer(raw)
    for index, name in enumerate(names):
        packer.pack(name, real_mask(shared_data, name), reverse=index % 2 == 1)
    report = convert(Fumpe(raw), out, RunOptions(quiet=True, workers=workers))
    assert report_faults(report) == []
    images = {}
    for image in all_images(out):
        images.setdefault(image["patient_id"], []).append(image)
    for name in names:
        mask = real_mask(shared_data, name)
        assert len(images[name]) == mask.shape[2]
        for image in images[name]:
            level = mask[:, :, image["file_index"]]
            union = union_mask(image["annotations"])
            if union is None:
                assert not level.any()
            else:
                np.testing.assert_array_equal(union, level)
                stored = read_slice_png(out / image["file_name"])
                np.testing.assert_array_equal(stored == EMBOLUS, level > 0)
    totals = report["totals"]
    return totals["slices"], totals["positive_slices"], totals["annotations"]


@pytest.mark.slow
def test_patients_in_the_layout_of_the_set(shared_data, tmp_path):
    """Three of them, files against the physical order in one, one without an embolus."""
    names = ["PAT009", "PAT013", "PAT024"]
    slices, positive, annotations = pack_and_convert(shared_data, tmp_path, names)
    masks = [real_mask(shared_data, name) for name in names]
    levels = [mask[:, :, k] for mask in masks for k in range(mask.shape[2])]
    assert slices == len(levels)
    assert positive == sum(bool(level.any()) for level in levels)
    expected = sum(ndimage.label(level, np.ones((3, 3)))[1] for level in levels if level.any())
    assert annotations == expected


@pytest.mark.slow
def test_the_whole_set_in_its_layout(shared_data, tmp_path):
    assert pack_and_convert(shared_data, tmp_path, PATIENTS, workers=2) == (8792, 2301, 3779)
    assert verify(tmp_path / "out", workers=2) == []
