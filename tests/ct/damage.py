"""Small studies in every form, and ways to damage their files."""

import gzip
import shutil
import tempfile
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pydicom
import SimpleITK as sitk
from dicom_files import write_enhanced, write_hu, write_jpeg
from hypothesis import strategies as st

NAMES = {
    "dicom": "slice.dcm",
    "dicom-rle": "slice.dcm",
    "dicom-jpeg": "slice.dcm",
    "dicom-gz": "slice.dcm.gz",
    "frames": "enhanced.dcm",
    "frames-rle": "enhanced.dcm",
    "nifti": "ct.nii",
    "nifti-gz": "ct.nii.gz",
    "nrrd": "ct.nrrd",
    "nrrd-gz": "ct.nrrd",
    "nrrd-bz2": "ct.nrrd",
    "meta": "ct.mha",
    "meta-packed": "ct.mha",
    "zip": "study.zip",
    "tar": "study.tar",
    "tar-gz": "study.tar.gz",
}
FORMS = tuple(NAMES)


def small_file(form: str) -> bytes:
    """A whole file of a form: a slice of 16 x 16, a volume of three, or an archive of three."""
    hu = np.arange(3 * 16 * 16, dtype=np.int16).reshape(3, 16, 16) - 300
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = folder / NAMES[form]
        if form == "dicom-gz":
            path.write_bytes(gzip.compress(write_hu(folder / "in", hu[0]).read_bytes()))
        elif form.startswith(("dicom", "frames")):
            if form.startswith("dicom"):
                write_hu(path, hu[0])
            else:
                places = [{"ImagePositionPatient": [0, 0, 2.0 * k]} for k in range(3)]
                write_enhanced(path, hu, places)
            if form.endswith("-rle"):
                dataset = pydicom.dcmread(path)
                dataset.compress(pydicom.uid.RLELossless)
                dataset.save_as(path)
            elif form == "dicom-jpeg":
                dataset = pydicom.dcmread(path)
                packed = pydicom.dcmread(write_jpeg(folder / "a.dcm", dataset.pixel_array))
                dataset.PixelData = packed.PixelData
                dataset.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
                dataset["PixelData"].VR = "OB"
                dataset.save_as(path)
        elif form.startswith("meta"):
            image = sitk.GetImageFromArray(hu)
            image.SetSpacing((0.7, 0.7, 2.0))
            sitk.WriteImage(image, str(path), useCompression=form == "meta-packed")
        elif form.startswith("nifti"):
            affine = np.diag([-0.7, -0.7, 2.0, 1.0])
            nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), affine), path)
        elif form.startswith("nrrd"):
            header = {
                "space": "left-posterior-superior",
                "space directions": np.diag([0.7, 0.7, 2.0]),
                "space origin": np.zeros(3),
                "encoding": {"gz": "gzip", "bz2": "bzip2"}.get(form[5:], "raw"),
            }
            nrrd.write(str(path), np.ascontiguousarray(hu.transpose(2, 1, 0)), header)
        else:
            for k, level in enumerate(hu):
                write_hu(folder / "in" / f"{k}.dcm", level, z=2.0 * k)
            kind = {"tar-gz": "gztar"}.get(form, form)
            shutil.make_archive(str(folder / "study"), kind, folder / "in")
        return path.read_bytes()


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with some bytes changed, a part cut off, repeated, or overwritten."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 6))):
        # Headers matter most, so half of the changes fall on the first kilobyte.
        end = len(content) - 1 if draw(st.booleans()) else min(1024, len(content) - 1)
        place = draw(st.integers(0, max(end, 0)))
        content[place] = draw(st.integers(0, 255))
    kind = draw(st.sampled_from(["none", "none", "cut", "repeat", "zero"]))
    if kind != "none" and len(content) > 2:
        start = draw(st.integers(1, len(content) - 1))
        stop = min(len(content), start + draw(st.integers(1, 400)))
        if kind == "cut":
            del content[start:]
        elif kind == "repeat":
            content[stop:stop] = content[start:stop]
        else:
            content[start:stop] = bytes(stop - start)
    return bytes(content)


def as_file(folder: Path, form: str, content: bytes) -> Path:
    path = folder / NAMES[form]
    path.write_bytes(content)
    return path
