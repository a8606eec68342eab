import nibabel
import numpy as np
import pytest
from dicom_files import write_hu
from raw_sets import all_images, painted, random_mask

from pe_unified.converters.contract.schema import union_mask
from pe_unified.converters.pipeline.run import RunOptions, convert, report_faults, report_warnings
from pe_unified.converters.raw.read import Read
from pe_unified.converters.verify import verify
from pe_unified.ct.hu import read_slice_png

QUIET = RunOptions(quiet=True)


def write_case(raw, case, seed=0, count=12, flips=(), claims=(2,), mask=None):
    """DICOM named against the positions; the mask's array is flipped along the axes ``flips``, and
    its header, with a rounded spacing, claims that it is along ``claims``: in READ, the slices.
    Returns HU and masks (slices, rows, cols) from feet to head."""
    rng = np.random.default_rng(seed)
    if mask is None:
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
    labels = np.flip(mask.transpose(1, 0, 2), flips)  # (cols, rows, slices)
    affine = np.diag([-0.7, -0.7, 1.0, 1])
    affine[:3, 3] = 100, 100, -80
    for axis in claims:
        affine[:3, 3] += affine[:3, axis] * (labels.shape[axis] - 1)
        affine[:3, axis] *= -1
    nibabel.save(nibabel.Nifti1Image(labels, affine), raw / f"{case}.nii.gz")
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


def test_the_usual_disagreement_is_told(tmp_path):
    raw = tmp_path / "raw"
    write_case(raw, "01GE")
    (patient,) = convert(Read(raw), tmp_path / "out", QUIET)["patients"]
    assert patient["warnings"] == []
    (note,) = patient["notes"]
    assert "disagree on the direction of slices; paired by index, as the HU" in note


@pytest.mark.parametrize("flips", [(2,), (0, 1), (0, 1, 2)])
def test_a_mask_that_another_program_turned_is_turned_back(tmp_path, flips):
    raw, out = tmp_path / "raw", tmp_path / "out"
    hu, mask = write_case(raw, "01GE", flips=flips, claims=flips)
    report = convert(Read(raw), out, QUIET)
    assert report_faults(report) == [] and report_warnings(report) == []
    images = assert_exact(out, "01GE", hu, mask)
    assert images[0]["file_index"] == (11 if 2 in flips else 0)
    (note,) = report["patients"][0]["notes"]
    assert "paired by the headers, as the HU under the masks say" in note
    assert verify(out) == []


def test_axes_in_another_order(tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    hu, mask = write_case(raw, "01GE", claims=())
    image = nibabel.load(raw / "01GE.nii.gz")
    order = nibabel.orientations.axcodes2ornt("SRP")
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), order)
    nibabel.save(image.as_reoriented(turn), raw / "01GE.nii.gz")
    assert report_faults(convert(Read(raw), out, QUIET)) == []
    assert_exact(out, "01GE", hu, mask)


@pytest.mark.parametrize(("turned", "paired"), [(True, "by the headers"), (False, "by index")])
def test_a_header_may_be_wrong_about_the_axes(tmp_path, turned, paired):
    """Array or header alone has its axes in another order; the count of slices tells."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    hu, mask = write_case(raw, "01GE", claims=())
    image = nibabel.load(raw / "01GE.nii.gz")
    order = nibabel.orientations.axcodes2ornt("SRP")
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), order)
    other = image.as_reoriented(turn)
    array = (other if turned else image).dataobj
    nibabel.save(nibabel.Nifti1Image(np.asarray(array), other.affine), raw / "01GE.nii.gz")
    report = convert(Read(raw), out, QUIET)
    assert report_faults(report) == []
    assert_exact(out, "01GE", hu, mask)
    said = "disagree on which axes are slices, rows and columns; paired {}, which alone fits"
    assert any(said.format(paired) in note for note in report["patients"][0]["notes"])


def test_without_masks_nothing_decides(tmp_path):
    raw = tmp_path / "raw"
    write_case(raw, "01GE", mask=np.zeros((44, 48, 12), np.uint8))
    report = convert(Read(raw), tmp_path / "out", QUIET)
    (warning,) = report_warnings(report)
    assert (
        "01GE: the headers" in warning
        and "by index: the mask is empty, so HU cannot decide" in warning
    )
    assert report_faults(report) == []


def test_another_grid_is_told(tmp_path):
    raw = tmp_path / "raw"
    write_case(raw, "01GE", claims=())
    image = nibabel.load(raw / "01GE.nii.gz")
    affine = image.affine @ np.diag([1.1, 1.1, 1, 1])
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), raw / "01GE.nii.gz")
    (patient,) = convert(Read(raw), tmp_path / "out", QUIET)["patients"]
    (note,) = patient["notes"]
    assert note.endswith("disagree on the distance between pixels and the place of the slices")


@pytest.mark.parametrize("small", [False, True])
def test_reversed_masks_are_caught_and_can_be_turned(tmp_path, small):
    """Neither the index nor the header says so; one pixel is enough."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    mask = None
    if small:
        mask = np.zeros((44, 48, 12), np.uint8)
        mask[20:23, 30:33, 2] = 1
    hu, mask = write_case(raw, "01GE", flips=(2,), claims=(), mask=mask)
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
