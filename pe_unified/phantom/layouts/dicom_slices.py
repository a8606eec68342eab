"""Writes a synthetic study as a DICOM series of CT images, in the style of different scanners."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from pe_unified.phantom.study import PhantomStudy

#: Values of ``--transfer-syntax``.
TRANSFER_SYNTAXES: dict[str, UID] = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpegls": JPEGLSLossless,
    "jpeg2000": JPEG2000Lossless,
}
_IMPLEMENTATION = UID("2.25.215398264706813945281304420127430651733")


@dataclass(frozen=True)
class PixelStyle:
    """How a scanner stores Hounsfield units: stored = (HU - intercept) / slope.

    Attributes:
        signed: two's complement or unsigned, 16 bits allocated.
        bits: stored bits.
        padding: stored value outside the round field of view, if it differs from that of air.
    """

    manufacturer: str
    model: str
    kernel: str
    signed: bool
    bits: int
    intercept: int
    padding: int | None


#: Styles that are distributed over the patients.
PIXEL_STYLES = (
    PixelStyle("GE MEDICAL SYSTEMS", "LightSpeed VCT", "STANDARD", True, 16, -1024, -2000),
    PixelStyle("SIEMENS", "SOMATOM Definition", "B30f", False, 12, -1024, None),
    PixelStyle("TOSHIBA", "Aquilion ONE", "FC08", True, 16, 0, -2000),
    PixelStyle("Philips", "Brilliance 64", "B", False, 16, -8192, None),
)


def phantom_uid(*parts: object) -> str:
    """A UID (2.25. and 128 bits) that depends only on ``parts``."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def pixel_style(study: PhantomStudy, manufacturer: str | None = None) -> PixelStyle:
    """The style of a study's scanner, drawn from its seed unless a manufacturer is given."""
    styles = [s for s in PIXEL_STYLES if manufacturer in (None, s.manufacturer)]
    return styles[int(study.plan.rng("scanner style").integers(len(styles)))]


def _outside_view(shape: tuple[int, int], spacing: tuple[float, float]) -> np.ndarray:
    rows, cols = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing))
    reach = min(shape[0] * spacing[0], shape[1] * spacing[1]) / 2
    return rows[:, None] ** 2 + cols[None, :] ** 2 > reach**2


def _series_dataset(study: PhantomStudy, patient: str, name: str, style: PixelStyle) -> Dataset:
    """Attributes common to all slices of the series."""
    plan, seed = study.plan, study.plan.seed
    day = date(2001, 1, 1) + timedelta(days=seed % 5000)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = CTImageStorage
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = f"{day:%Y%m%d}"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "120000"
    ds.AccessionNumber = ""
    ds.Modality = "CT"
    ds.Manufacturer = style.manufacturer
    ds.ManufacturerModelName = style.model
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "CT PULMONARY ANGIOGRAM (PHANTOM)"
    ds.SeriesDescription = "Painted, not a patient"
    ds.PatientName = name
    ds.PatientID = patient
    ds.PatientBirthDate = ""
    ds.PatientSex = plan.sex
    ds.PatientAge = f"{plan.age:03d}Y"
    ds.ContrastBolusAgent = "PHANTOM IODINE"
    ds.BodyPartExamined = "CHEST"
    ds.KVP = "120"
    ds.SliceThickness = f"{min(study.spacing[0], 2.0):.6g}"
    ds.ConvolutionKernel = style.kernel
    ds.PatientPosition = "FFS"
    ds.StudyInstanceUID = phantom_uid(seed, patient, "study")
    ds.SeriesInstanceUID = phantom_uid(seed, patient, "series")
    ds.StudyID = "1"
    ds.SeriesNumber = 2
    ds.AcquisitionNumber = 1
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.FrameOfReferenceUID = phantom_uid(seed, patient, "frame")
    ds.PositionReferenceIndicator = ""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = study.hu.shape[1:]
    ds.PixelSpacing = [f"{s:.6g}" for s in study.spacing[1:]]
    ds.BitsAllocated = 16
    ds.BitsStored = style.bits
    ds.HighBit = style.bits - 1
    ds.PixelRepresentation = int(style.signed)
    if style.padding is not None:
        ds.add_new("PixelPaddingValue", "SS" if style.signed else "US", style.padding)
    ds.WindowCenter, ds.WindowWidth = "100", "700"
    ds.RescaleIntercept = str(style.intercept)
    ds.RescaleSlope = "1"
    ds.RescaleType = "HU"
    return ds


def write_series(
    folder: Path,
    study: PhantomStudy,
    names: Sequence[str] | None,
    *,
    patient: str,
    person: str,
    instance_numbers: Sequence[int] | None = None,
    manufacturer: str | None = None,
    transfer_syntax: str = "explicit",
) -> list[str]:
    """Write one DICOM file per slice.

    Args:
        folder: an existing folder, not yet in its final place.
        names: file name of each slice of ``study.hu``, lowest slice first; ``<SOP UID>.dcm`` if
            None.
        patient: Patient ID.
        person: Patient's Name.
        instance_numbers: by slice; by default counted from the head down.
        manufacturer: of the scanner; drawn by default.
        transfer_syntax: a key of :data:`TRANSFER_SYNTAXES`.

    Returns:
        SOP Instance UIDs, lowest slice first.
    """
    style = pixel_style(study, manufacturer)
    shared = _series_dataset(study, patient, person, style)
    syntax = TRANSFER_SYNTAXES[transfer_syntax]
    outside = _outside_view(study.hu.shape[1:], study.spacing[1:])  # type: ignore[arg-type]
    count = len(study.hu)
    uids = [phantom_uid(study.plan.seed, patient, "slice", k) for k in range(count)]
    for k, plane in enumerate(study.hu):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = UID(uids[k])
        meta.ImplementationClassUID = _IMPLEMENTATION
        meta.ImplementationVersionName = "PE_PHANTOM"
        meta.TransferSyntaxUID = syntax if not syntax.is_compressed else ExplicitVRLittleEndian
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.update(shared)
        ds.SOPInstanceUID = uids[k]
        ds.InstanceNumber = int(instance_numbers[k]) if instance_numbers else count - k
        z = study.origin[2] + k * study.spacing[0]
        position = (study.origin[0], study.origin[1], z)
        ds.ImagePositionPatient = [f"{p:.6g}" for p in position]
        ds.SliceLocation = f"{z:.6g}"
        stored = plane.astype(np.int32) - style.intercept
        if style.padding is not None:
            stored[outside] = style.padding
        kind = np.dtype("<i2") if style.signed else np.dtype("<u2")
        ds.add_new("PixelData", "OW", stored.astype(kind).tobytes())
        if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
            ds.compress(syntax, generate_instance_uid=False)
        elif syntax == DeflatedExplicitVRLittleEndian:
            meta.TransferSyntaxUID = syntax
        path = folder / (names[k] if names else f"{uids[k]}.dcm")
        pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return uids
