import nibabel
import numpy as np
import pytest
from dicom_files import write_hu
from raw_sets import all_images, painted, random_mask

from data_converters.core.run import RunOptions, convert, report_faults
from data_converters.core.schema import union_mask
from data_converters.read_to_coco import Read
from data_converters.verify import verify
from pe_unified.ct.hu import read_slice_png

QUIET = RunOptions(quiet=True)


def write_case(raw, case, seed=0, count=12, reversed_mask=False):
    """DICOM named against the positions; the mask's header claims the other direction and a
    rounded spacing. Returns HU and masks (slices, rows, cols) from feet to head."""
    rng = np.random.default_rng(seed)
    mask = random_mask(rng, 48, count)[:44]  # rows and columns differ
    hu = painted(mask, rng)
    maker = "GE" if case.endswith("GE") else "TOSHIBA"
    for k in range(count):
        write_hu(
            raw / f"{maker} (DICOM files)" / case / f"I{count - k}",
            hu[k],
            1.25 * k - 80,
            StudyInstanceUID=f"1.7.{int(case[:2])}",
        )
    labels = mask.transpose(1, 0, 2)  # (cols, rows, slices)
    if reversed_mask:
        labels = labels[:, :, ::-1]
    image = nibabel.Nifti1Image(labels, np.diag([-0.7, -0.7, -1.0, 1]))
    nibabel.save(image, raw / f"{case}.nii.gz")
    return hu, mask.transpose(2, 0, 1)


def assert_exact(out, case, hu, mask):
    images = [image for image in all_images(out) if image["patient_id"] == case]
    images.sort(key=lambda image: image["slice_index"])
    assert len(images) == len(hu)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(read_slice_png(out / image["file_name"]), hu[index])
        union = union_mask(image["annotations"])
        np.testing.assert_array_equal(
            np.zeros_like(mask[index]) if union is None else union, mask[index]
        )
        assert image["z_mm"] == pytest.approx(1.25 * index - 80)
        assert image["spacing_mm"] == [0.7, 0.7, 1.25]
    return images


def test_paired_by_index_geometry_from_dicom(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    truths = {"01GE": write_case(raw, "01GE"), "02TS": write_case(raw, "02TS", seed=4)}
    (raw / "labels").mkdir()
    (raw / "02TS.nii.gz").rename(raw / "labels" / "02TS.nii.gz")
    report = convert(Read(raw), out, QUIET)
    assert report_faults(report) == [] and verify(out) == []
    for case, (hu, mask) in truths.items():
        images = assert_exact(out, case, hu, mask)
        assert [image["file_index"] for image in images] == list(range(12))


def test_reversed_masks_are_caught_and_can_be_turned(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    hu, mask = write_case(raw, "01GE", reversed_mask=True)
    (fault,) = report_faults(convert(Read(raw), out, QUIET))
    assert "01GE: the HU check fails" in fault and "--no-hu-check" in fault
    assert report_faults(convert(Read(raw, order="descending"), out, QUIET)) == []
    assert_exact(out, "01GE", hu, mask)
    assert verify(out) == []


def test_bad_input_is_named_and_the_rest_converted(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    good = write_case(raw, "01GE")
    for case in ("02GE", "03GE", "04TS", "05TS"):
        write_case(raw, case, seed=1)
    (raw / "02GE.nii.gz").unlink()
    (raw / "GE (DICOM files)" / "03GE" / "I4").unlink()
    path = raw / "04TS.nii.gz"
    path.write_bytes(path.read_bytes()[:60])
    for item in (raw / "TOSHIBA (DICOM files)" / "05TS").iterdir():
        item.unlink()
    (raw / "TOSHIBA (DICOM files)" / "05TS").rmdir()
    faults = "\n".join(report_faults(convert(Read(raw), out, QUIET)))
    assert "02GE skipped: GE (DICOM files)/02GE: a scan without a mask; put 02GE.nii.gz" in faults
    assert "03GE skipped: GE (DICOM files)/03GE: the mask has 12 slices, the folder 11" in faults
    assert "04TS skipped: 04TS.nii.gz: no readable NIfTI file" in faults
    assert "05TS skipped: 05TS.nii.gz: a mask without a scan" in faults
    assert_exact(out, "01GE", *good)
    assert verify(out) == []


def test_the_name_of_the_whole_says_nothing(tmp_path):
    raw = tmp_path / "READ (DICOM)"
    for case in ("01GE", "02TS"):
        write_case(raw, case)
    (raw / "masks").mkdir()
    report = convert(Read(raw), tmp_path / "out", QUIET)
    assert report_faults(report) == [] and report["totals"]["patients"] == 2
