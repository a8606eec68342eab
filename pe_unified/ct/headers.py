"""DICOM headers of single CT slices, and the folders that hold them."""

import io
import math
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from pe_unified.ct.errors import DataError, one_line
from pe_unified.ct.units import other_unit

#: What is read of a header; the rest is skipped, which makes a scan of a folder quick.
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
        "RescaleType",
        "SeriesDescription",
        "StudyDate",
        "StudyTime",
        "VolumeBasedCalculationTechnique",
    )
}
#: Files that lie beside slices and are never slices.
_COMPANION = re.compile(
    r"\.(txt|json|csv|tsv|md|xml|html|pdf|log|ini|yml|png|jpe?g|gif|db|zip|gz|tar|mat|nii|nrrd|nhdr|raw"
    r"|py|sh|bat|exe)$",
    re.IGNORECASE,
)
#: What says how a file is packed takes less, bytes.
_LARGEST_META = 1 << 20
#: No slice takes more, bytes.
LARGEST_SLICE = 64 << 20
COPY_AGAIN = "copy the file again from the source, or remove it on purpose"


@dataclass(frozen=True)
class SliceHeader:
    """What one file says about its slice; ``None`` or empty where it says nothing.

    Attributes:
        position: patient coordinates (x, y, z) of the centre of the first pixel, mm, LPS.
        orientation: unit vectors along a row (towards higher columns) and along a column.
        pixel_spacing: (between rows, between columns), mm.
        thickness: of the slice, mm.
        bits: stored per pixel; 0 where the file does not say.
        contrast: what is said of a contrast agent, which may be that there is none.
        acquisition: the scanner's pass over the patient, numbered from 1; 0 where not said.
        acquired: time of day of that pass, HHMMSS.
        study_date, study_time: YYYYMMDD and HHMMSS, as written.
        kernel: of the reconstruction.
        unit: what the pixels count, where the file says that it is not Hounsfield units.
        technique: how the slice was computed from a volume.
        description: of the series; free text that may hold a name.
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
    bits: int = 0
    contrast: str = ""
    acquisition: int = 0
    acquired: str = ""
    study_date: str = ""
    study_time: str = ""
    kernel: str = ""
    unit: str = ""
    technique: str = ""
    description: str = ""


@dataclass
class FolderScan:
    """The slices of a folder, and the files that are none.

    Attributes:
        headers: in natural order of the file names.
        ignored: (file, why) for files that are plainly no slices.
        broken: errors of files that should be slices and cannot be read.
    """

    headers: list[SliceHeader] = field(default_factory=list)
    ignored: list[tuple[Path, str]] = field(default_factory=list)
    broken: list[DataError] = field(default_factory=list)


def is_companion(path: Path) -> bool:
    """Whether a file is plainly no slice by its name: notes, pictures, databases of thumbnails."""
    return _COMPANION.search(path.name) is not None or path.name.upper() == "DICOMDIR"


def natural_key(path: str | os.PathLike) -> list[tuple[int, int | str]]:
    """Sorts D2 before D10: runs of digits compare as numbers."""
    parts = re.split(r"(\d+)", os.fspath(path).lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def list_files(folder: str | os.PathLike) -> list[Path]:
    """All files under a folder, sub-folders included, hidden ones not, in natural order.

    Pipes, devices and links to nowhere are no files; links to folders are not followed.

    Raises:
        DataError: a folder that cannot be listed.
    """
    root = Path(folder)
    found = []

    def refuse(error: OSError) -> None:
        cure = "make it readable for this user"
        raise DataError(error.filename or root, "the folder cannot be listed", cure, error)

    for parent, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        found += [path for path in paths if os.path.isfile(path)]
    return sorted(found, key=lambda path: natural_key(path.relative_to(root).as_posix()))


def scan_folder(folder: str | os.PathLike) -> FolderScan:
    """Read the headers of all DICOM slices under a folder, with or without a suffix."""
    return scan_files(list_files(folder))


def scan_files(files: Iterable[Path]) -> FolderScan:
    """Read the headers of the given files, keeping their order."""
    scan = FolderScan()
    for path in files:
        if is_companion(path):
            scan.ignored.append((path, "not a slice by its name"))
            continue
        try:
            header = read_header(path)
        except DataError as error:
            scan.broken.append(error)
            continue
        if header.rows and header.cols:
            scan.headers.append(header)
        elif header.sop_class == MediaStorageDirectoryStorage or header.modality not in ("", "CT"):
            kind = header.modality or "directory"
            scan.ignored.append((path, f"DICOM object without pixels ({kind})"))
        else:
            scan.broken.append(DataError(path, "the header ends before the pixels", COPY_AGAIN))
    return scan


def read_header(path: str | os.PathLike) -> SliceHeader:
    """Read what orders and identifies a slice, not its pixels.

    Raises:
        DataError: not DICOM, or cut short within the header.
    """
    path = Path(path)
    dataset = open_dicom(path, stop_before_pixels=True, specific_tags=list(_HEADER_TAGS.values()))
    try:
        return _header_of(path, dataset)
    except Exception as error:  # a damaged header may hold values that cannot be read
        raise DataError(path, "unreadable header", COPY_AGAIN, error) from error


def _header_of(path: Path, dataset: pydicom.Dataset) -> SliceHeader:
    return SliceHeader(
        path=path,
        sop_class=_text(dataset, "SOPClassUID"),
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


def open_dicom(path: Path, **options: object) -> pydicom.Dataset:
    """A DICOM file, with or without its preamble.

    Raises:
        DataError: no such file, not DICOM, or a header that cannot be read.
    """
    _refuse_inflated(path)
    try:
        with _BoundedFile(path) as file:
            return pydicom.dcmread(file, **options)  # type: ignore[arg-type]
    except FileNotFoundError:
        raise DataError(path, "no such file", "check the path") from None
    except pydicom.errors.InvalidDicomError:
        pass
    except Exception as error:
        raise DataError(path, "unreadable header", COPY_AGAIN, error) from error
    # Old files lack the preamble; anything else lacks the class of the object too.
    try:
        with _BoundedFile(path) as file:
            dataset = pydicom.dcmread(file, force=True, **options)  # type: ignore[arg-type]
    except Exception as error:
        raise DataError(path, "unreadable header", COPY_AGAIN, error) from error
    if "SOPClassUID" not in dataset:
        size = path.stat().st_size
        raise DataError(path, f"not a DICOM file ({size} bytes)", COPY_AGAIN)
    if not hasattr(dataset.file_meta, "TransferSyntaxUID"):
        big = dataset.original_encoding == (False, False)
        dataset.file_meta.TransferSyntaxUID = (
            pydicom.uid.ExplicitVRBigEndian if big else pydicom.uid.ImplicitVRLittleEndian
        )
    return dataset


class _BoundedFile(io.BufferedReader):
    """A file that makes room for no more than it holds, when a damaged length asks for more."""

    def __init__(self, path: Path) -> None:
        raw = io.FileIO(path)
        super().__init__(raw)
        self._length = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None else min(size, self._length))


def _refuse_inflated(path: Path) -> None:
    """Refuse a deflated file that holds far more than a slice; pydicom would unpack all of it."""
    try:
        with open(path, "rb") as file:
            syntax = _transfer_syntax(file)
            if file.tell() > _LARGEST_META:
                raise DataError(path, "a header of megabytes before the slice's own", COPY_AGAIN)
            if syntax != DeflatedExplicitVRLittleEndian:
                return
            unpacked = zlib.decompressobj(-zlib.MAX_WBITS)
            unpacked.decompress(file.read(LARGEST_SLICE), LARGEST_SLICE)
    except (OSError, zlib.error):  # the reader says it better
        return
    if unpacked.unconsumed_tail:
        raise DataError(path, "unpacks to far more than a slice (a bomb?)", COPY_AGAIN)


def _transfer_syntax(file: BinaryIO) -> str:
    """Of a file with or without a preamble, which is left where the data set begins."""
    start = 132 if file.read(132)[128:] == b"DICM" else 0
    syntax = ""
    while start <= _LARGEST_META:
        file.seek(start)
        head = file.read(12)
        if len(head) < 12 or head[:2] != b"\x02\x00":
            break
        kind = head[4:6].decode("ascii", "replace")
        if not (kind.isalpha() and kind.isupper()):  # no kind is said, against the standard
            begin, length = 8, int.from_bytes(head[4:8], "little")
        elif kind in EXPLICIT_VR_LENGTH_32:
            begin, length = 12, int.from_bytes(head[8:12], "little")
        else:
            begin, length = 8, int.from_bytes(head[6:8], "little")
        if head[2:4] == b"\x10\x00":
            file.seek(start + begin)
            syntax = file.read(min(length, 128)).decode("ascii", "replace").strip(" \0")
        start += begin + length
    file.seek(start)
    return syntax


def _items(dataset: pydicom.Dataset, keyword: str) -> list[str]:
    """The values of an element as texts; none where it is absent or cannot be read.

    Texts are taken as they stand in the file: pydicom's own types cost more than reading the
    header does.
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
    except Exception:  # a value that cannot be converted counts as absent
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
