"""DICOM headers of CT slices, and folders of slices."""

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import MediaStorageDirectoryStorage

from pe_unified.ct.companions import is_companion, is_no_slice
from pe_unified.ct.dicom_file import open_dicom
from pe_unified.ct.frames import FRAME_TAGS, Frame, as_slices, is_multiframe, pixels_of
from pe_unified.ct.units import other_unit
from pe_unified.errors import COPY_OR_REMOVE, DataError, one_line

#: Elements that are read; the others are skipped, which makes scanning a folder fast.
_HEADER_TAGS = {
    keyword: Tag(keyword)
    for keyword in (
        "SOPClassUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "StudyInstanceUID",
        "PatientID",
        "Modality",
        "ImageType",
        "Rows",
        "Columns",
        "NumberOfFrames",
        "SamplesPerPixel",
        "InstanceNumber",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceLocation",
        "SliceThickness",
        "BitsStored",
        "ContrastBolusAgent",
        "AcquisitionNumber",
        "AcquisitionTime",
        "ConvolutionKernel",
        "RealWorldValueMappingSequence",
        "RescaleIntercept",
        "RescaleSlope",
        "RescaleType",
        "SeriesDescription",
        "StudyDate",
        "StudyTime",
        "VolumeBasedCalculationTechnique",
    )
}


@dataclass(frozen=True)
class SliceHeader:
    """The header of one slice; ``None`` or empty where a value is missing.

    Attributes:
        position: patient coordinates (x, y, z) of the centre of the first pixel, mm, LPS.
        orientation: unit vectors along a row (towards higher columns) and along a column.
        pixel_spacing: (between rows, between columns), mm.
        thickness: of the slice, mm.
        slope: with ``intercept``, converts stored numbers to HU.
        bits: stored per pixel; 0 if the file does not say.
        contrast: statement on a contrast agent, which may be that there is none.
        acquisition: number of the scanner's pass over the patient, from 1; 0 if missing.
        frame: of a file that holds many slices; None if the file is the slice.
        acquired: time of day of that pass, HHMMSS.
        study_date, study_time: YYYYMMDD and HHMMSS, as written.
        kernel: of the reconstruction.
        unit: of the pixels, if the file says that it is not Hounsfield units.
        technique: how the slice was computed from a volume.
        description: of the series; free text that may contain a name.
    """

    path: Path
    sop_class: str = ""
    sop_uid: str = ""
    series_uid: str = ""
    study_uid: str = ""
    patient_id: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    rows: int = 0
    cols: int = 0
    frames: int = 1
    samples: int = 1
    instance_number: int | None = None
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    pixel_spacing: tuple[float, ...] | None = None
    slice_location: float | None = None
    thickness: float | None = None
    slope: float | None = None
    intercept: float | None = None
    bits: int = 0
    contrast: str = ""
    acquisition: int = 0
    frame: Frame | None = None
    acquired: str = ""
    study_date: str = ""
    study_time: str = ""
    kernel: str = ""
    unit: str = ""
    technique: str = ""
    description: str = ""


@dataclass
class FolderScan:
    """The slices of a folder, and its other files.

    Attributes:
        headers: in natural order of the file names.
        ignored: (file, reason) for files that are plainly not slices.
        broken: errors of files that should be slices but cannot be read.
    """

    headers: list[SliceHeader] = field(default_factory=list)
    ignored: list[tuple[Path, str]] = field(default_factory=list)
    broken: list[DataError] = field(default_factory=list)


def agreed(headers: Iterable[SliceHeader], name: str) -> Any:
    """The most frequent value of something that a scan shares, such as ``pixel_spacing``.

    Slices without a value are ignored; if none has one, the value of the first slice.
    """
    values = [getattr(header, name) for header in headers]
    said = Counter(value for value in values if value not in (None, ""))
    return said.most_common(1)[0][0] if said else values[0]


def natural_key(path: str | os.PathLike) -> list[tuple[int, int | str]]:
    """Sort key that puts D2 before D10: runs of digits compare as numbers."""
    parts = re.split(r"(\d+)", os.fspath(path).lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def list_files(folder: str | os.PathLike, links: bool = False) -> list[Path]:
    """All files under a folder in natural order, including subfolders, except hidden ones.

    Pipes, devices and broken links are skipped.

    Args:
        links: also follow links to folders outside, each of them once.

    Raises:
        DataError: a folder cannot be listed.
    """
    root = Path(folder)
    found = []
    seen = [root.resolve()]

    def refuse(error: OSError) -> None:
        cure = "make it readable for this user"
        raise DataError(error.filename or root, "the folder cannot be listed", cure, error)

    def is_wanted(path: Path) -> bool:
        if path.name.startswith((".", "__MACOSX")):
            return False
        if links and path.is_symlink():
            target = path.resolve()
            if any(target.is_relative_to(one) or one.is_relative_to(target) for one in seen):
                return False
            seen.append(target)
        return True

    for parent, folders, names in os.walk(root, onerror=refuse, followlinks=links):
        folders[:] = [name for name in folders if is_wanted(Path(parent, name))]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        found += [path for path in paths if os.path.isfile(path)]
    return sorted(found, key=lambda path: natural_key(path.relative_to(root).as_posix()))


def scan_folder(folder: str | os.PathLike, many_in_one: bool = True) -> FolderScan:
    """Read the headers of all DICOM slices under a folder, with or without a suffix."""
    return scan_files(list_files(folder), many_in_one)


def scan_files(files: Iterable[Path], many_in_one: bool = True) -> FolderScan:
    """Read the headers of the given files, keeping their order.

    Args:
        files: of a study.
        many_in_one: whether a file may hold many slices; if not, such a file counts as broken.
    """
    scan = FolderScan()
    for path in files:
        if is_companion(path):
            scan.ignored.append((path, "not a slice by its name"))
            continue
        try:
            headers = read_headers(path)
        except DataError as error:
            if is_no_slice(path):
                scan.ignored.append((path, "not a slice by its content"))
            else:
                scan.broken.append(error)
            continue
        header = headers[0]
        if header.frame is not None and not many_in_one:
            reason = f"multi-frame image of {len(headers)} frames"
            cure = "export the series as single-frame CT images"
            scan.broken.append(DataError(path, reason, cure))
        elif header.rows and header.cols:
            scan.headers += headers
        elif header.sop_class == MediaStorageDirectoryStorage or header.modality not in ("", "CT"):
            kind = header.modality or "directory"
            scan.ignored.append((path, f"DICOM object without pixels ({kind})"))
        else:
            scan.broken.append(DataError(path, "the header ends before the pixels", COPY_OR_REMOVE))
    return scan


def read_headers(path: str | os.PathLike) -> list[SliceHeader]:
    """Read the elements that order and identify the slices of a file, without pixels: one header,
    or one for each frame of an enhanced multi-frame object.

    Raises:
        DataError: not DICOM, or truncated within the header.
    """
    path = Path(path)
    tags = [*_HEADER_TAGS.values(), *FRAME_TAGS]
    dataset = open_dicom(path, stop_before_pixels=True, specific_tags=tags)
    try:
        header = _header_of(path, dataset)
        if is_multiframe(dataset) and header.modality in ("", "CT"):
            return _headers_of_frames(path, dataset)
        return [header]
    except DataError:
        raise
    except Exception as error:  # a damaged header may hold unreadable values
        raise DataError(path, "unreadable header", COPY_OR_REMOVE, error) from error


def _headers_of_frames(path: Path, dataset: pydicom.Dataset) -> list[SliceHeader]:
    pixels, start = pixels_of(path)
    headers = []
    for number, flat in enumerate(as_slices(dataset), start=1):
        header = _header_of(path, flat)
        frame = Frame(number, header.slope, header.intercept, pixels, start)
        headers.append(replace(header, frames=1, frame=frame))
    return headers


def _header_of(path: Path, dataset: pydicom.Dataset) -> SliceHeader:
    return SliceHeader(
        path=path,
        sop_class=_text(dataset, "SOPClassUID") or _class_of_file(dataset),
        sop_uid=_text(dataset, "SOPInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        patient_id=_text(dataset, "PatientID"),
        modality=one_line(_text(dataset, "Modality"))[:16].upper(),
        image_type=_texts(dataset, "ImageType"),
        rows=int(number_of(dataset, "Rows") or 0),
        cols=int(number_of(dataset, "Columns") or 0),
        frames=int(number_of(dataset, "NumberOfFrames") or 1),
        samples=int(number_of(dataset, "SamplesPerPixel") or 1),
        instance_number=_integer(dataset, "InstanceNumber"),
        position=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        pixel_spacing=_positive(_numbers(dataset, "PixelSpacing", 2)),
        slice_location=number_of(dataset, "SliceLocation"),
        thickness=number_of(dataset, "SliceThickness") or None,
        slope=number_of(dataset, "RescaleSlope") or None,
        intercept=number_of(dataset, "RescaleIntercept"),
        bits=int(number_of(dataset, "BitsStored") or 0),
        contrast=_text(dataset, "ContrastBolusAgent"),
        acquisition=_integer(dataset, "AcquisitionNumber") or 0,
        acquired=_text(dataset, "AcquisitionTime"),
        study_date=_text(dataset, "StudyDate"),
        study_time=_text(dataset, "StudyTime"),
        kernel=one_line(_text(dataset, "ConvolutionKernel"))[:32],
        unit=other_unit(_text(dataset, "RescaleType"), dataset),
        technique=_text(dataset, "VolumeBasedCalculationTechnique").upper(),
        description=_text(dataset, "SeriesDescription").upper(),
    )


def _class_of_file(dataset: pydicom.Dataset) -> str:
    """The SOP class from the file meta information, the only place where a DICOMDIR has it."""
    return str(getattr(dataset, "file_meta", {}).get("MediaStorageSOPClassUID", ""))


def _items(dataset: pydicom.Dataset, keyword: str) -> list[str]:
    """The values of an element as texts; empty if it is absent or unreadable.

    Texts are taken unchanged from the file: pydicom's own types take longer than reading the
    header.
    """
    tag = _HEADER_TAGS.get(keyword)
    if tag is not None and keyword != "PatientID" and tag in dataset:
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
            if keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsStored"):
                order = "little" if element.is_little_endian else "big"
                return [str(int.from_bytes(element.value[:2], order))]
            text = element.value.decode("ascii", "replace")
            return [item.strip(" \0") for item in text.split("\\")]
    try:
        value = dataset.get(keyword)
    except Exception:  # a value that cannot be converted counts as missing
        return []
    if value is None:
        return []
    values = value if isinstance(value, MultiValue | list | tuple) else [value]
    return [str(item).strip(" \0") for item in values]


def _text(dataset: pydicom.Dataset, keyword: str) -> str:
    return "\\".join(_items(dataset, keyword))


def _texts(dataset: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
    return tuple(item.upper() for item in _items(dataset, keyword))


def number_of(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """The first finite number of an element, or None."""
    items = _items(dataset, keyword)
    try:
        number = float(items[0])
    except (IndexError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _integer(dataset: pydicom.Dataset, keyword: str) -> int | None:
    number = number_of(dataset, keyword)
    return None if number is None else int(number)


def _numbers(dataset: pydicom.Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    items = _items(dataset, keyword)
    try:
        numbers = tuple(float(item) for item in items)
    except ValueError:
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _positive(numbers: Sequence[float] | None) -> tuple[float, ...] | None:
    return tuple(numbers) if numbers is not None and min(numbers) > 0 else None
