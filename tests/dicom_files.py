"""Writes small CT slices as DICOM, with whatever quirk a test is about."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

STUDY, SERIES = "1.2.826.0.1.1", "1.2.826.0.1.1.1"


def slice_dataset(
    stored: np.ndarray, z: float | None = 0.0, number: int | None = 1, **elements
) -> Dataset:
    """An axial CT slice of the given stored numbers (rows, cols).

    HU = stored - 1024 unless ``elements`` say otherwise; an element given as None is left out.
    """
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = elements.pop("SOPInstanceUID", None) or generate_uid()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * stored.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.PixelData = stored.tobytes()
    values = {
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "PatientID": "P1",
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "InstanceNumber": number,
        "ImagePositionPatient": None if z is None else [-100.0, -100.0, z],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.7, 0.7],
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        **elements,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(ds, keyword, value)
    return ds


def write_slice(path: Path, stored: np.ndarray, z: float | None = 0.0, **elements) -> Path:
    """As :func:`slice_dataset`, into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    slice_dataset(stored, z, **elements).save_as(path, enforce_file_format=True)
    return path


def write_jpeg(path: Path, stored: np.ndarray) -> Path:
    """A slice in lossless JPEG (process 14), as most archives hold CT; written by GDCM."""
    image = sitk.ReadImage(str(write_slice(path, stored)))
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.Execute(sitk.Cast(image, sitk.sitkInt16))
    return path


def write_hu(path: Path, hu: np.ndarray, z: float | None = 0.0, **elements) -> Path:
    """A slice of the given Hounsfield units, stored as uint16 with an offset of 1024."""
    return write_slice(path, (hu.astype(np.int32) + 1024).astype(np.uint16), z, **elements)


#: Of functional groups: what each holds.
_GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "CTImageFrameTypeSequence": ("FrameType",),
    "CTReconstructionSequence": ("ConvolutionKernel",),
    "FrameContentSequence": (
        *("StackID", "InStackPositionNumber", "TemporalPositionIndex", "FrameAcquisitionNumber"),
        "DimensionIndexValues",
    ),
    "ContrastBolusUsageSequence": ("ContrastBolusAgentAdministered",),
}


def _functional_groups(values: dict) -> Dataset:
    groups = Dataset()
    for sequence, keywords in _GROUPS.items():
        item = Dataset()
        for keyword in keywords:
            if values.get(keyword) is not None:
                setattr(item, keyword, values[keyword])
        if item:
            setattr(groups, sequence, Sequence([item]))
    return groups


def enhanced_dataset(
    stored: np.ndarray,
    frames: list[dict],
    shared: dict | None = None,
    dimensions: tuple[str, ...] = (),
    **elements,
) -> Dataset:
    """An Enhanced CT object of stored numbers (frames, rows, cols).

    ``frames`` and ``shared`` hold elements by keyword, put into their functional groups;
    HU = stored - 1024 unless they say otherwise. ``elements`` go into the top level.
    """
    unsaid = dict.fromkeys(
        ("ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
    )
    ds = slice_dataset(stored[0], None, None, **{**unsaid, **elements})
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = len(stored)
    ds.PixelData = stored.tobytes()
    usual = {
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.7, 0.7],
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
    }
    ds.SharedFunctionalGroupsSequence = Sequence([_functional_groups({**usual, **(shared or {})})])
    ds.PerFrameFunctionalGroupsSequence = Sequence([_functional_groups(each) for each in frames])
    if dimensions:
        ds.DimensionIndexSequence = Sequence([Dataset() for _ in dimensions])
        for item, keyword in zip(ds.DimensionIndexSequence, dimensions, strict=True):
            item.DimensionIndexPointer = tag_for_keyword(keyword)
    return ds


def write_enhanced(path: Path, hu: np.ndarray, frames: list[dict], **options) -> Path:
    """As :func:`enhanced_dataset`, of Hounsfield units (frames, rows, cols), into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = (hu.astype(np.int32) + 1024).astype(np.uint16)
    enhanced_dataset(stored, frames, **options).save_as(path, enforce_file_format=True)
    return path


def all_items(sequence):
    """Every item of a sequence and of the sequences in it."""
    for item in sequence:
        yield item
        for element in item:
            if element.VR == "SQ":
                yield from all_items(element.value)


def texts_of(structured):
    """The sentences of a structured report."""
    items = all_items(structured.ContentSequence)
    return [item.TextValue for item in items if "TextValue" in item]
