"""DICOM files of single CT slices: what the header says, and the pixels as Hounsfield units."""

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom.multival import MultiValue
from pydicom.pixels import apply_modality_lut
from pydicom.uid import MediaStorageDirectoryStorage

from pe_unified.ct.errors import DataError
from pe_unified.ct.hu import HU_MAX, HU_MIN

#: What is read of a header; the rest is skipped, which makes a scan of a folder quick.
_HEADER_TAGS = [
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
]
#: Files that lie beside slices and are never slices.
_COMPANION = re.compile(
    r"\.(txt|json|csv|tsv|md|xml|html|pdf|log|ini|yml|png|jpe?g|gif|db|zip|gz|tar|mat|nii|nrrd"
    r"|py|sh|bat|exe)$",
    re.IGNORECASE,
)
#: The rescale intercept of scanners that store CT as unsigned numbers.
_USUAL_INTERCEPT = -1024.0
_COPY_AGAIN = "copy the file again from the source, or remove it on purpose"


@dataclass(frozen=True)
class SliceHeader:
    """What one file says about its slice; ``None`` or empty where it says nothing.

    Attributes:
        position: patient coordinates (x, y, z) of the centre of the first pixel, mm, LPS.
        orientation: unit vectors along a row (towards higher columns) and along a column.
        pixel_spacing: (between rows, between columns), mm.
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


def natural_key(path: str | os.PathLike) -> list[tuple[int, int | str]]:
    """Sorts D2 before D10: runs of digits compare as numbers."""
    parts = re.split(r"(\d+)", os.fspath(path).lower())
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def list_files(folder: str | os.PathLike) -> list[Path]:
    """All files under a folder, sub-folders included, hidden ones not, in natural order."""
    root = Path(folder)
    found = []
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(path.relative_to(root).as_posix()))


def scan_folder(folder: str | os.PathLike) -> FolderScan:
    """Read the headers of all DICOM slices under a folder, with or without a suffix."""
    return scan_files(list_files(folder))


def scan_files(files: Iterable[Path]) -> FolderScan:
    """Read the headers of the given files, keeping their order."""
    scan = FolderScan()
    for path in files:
        if _COMPANION.search(path.name) or path.name.upper() == "DICOMDIR":
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
            scan.broken.append(DataError(path, "the header ends before the pixels", _COPY_AGAIN))
    return scan


def read_header(path: str | os.PathLike) -> SliceHeader:
    """Read what orders and identifies a slice, not its pixels.

    Raises:
        DataError: not DICOM, or cut short within the header.
    """
    path = Path(path)
    dataset = _dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
    return SliceHeader(
        path=path,
        sop_class=_text(dataset, "SOPClassUID"),
        sop_uid=_text(dataset, "SOPInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        patient_id=_text(dataset, "PatientID"),
        modality=_text(dataset, "Modality").upper(),
        image_type=_texts(dataset, "ImageType"),
        rows=int(_number(dataset, "Rows") or 0),
        cols=int(_number(dataset, "Columns") or 0),
        frames=int(_number(dataset, "NumberOfFrames") or 1),
        samples=int(_number(dataset, "SamplesPerPixel") or 1),
        instance_number=_integer(dataset, "InstanceNumber"),
        position=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        pixel_spacing=_positive(_numbers(dataset, "PixelSpacing", 2)),
        slice_location=_number(dataset, "SliceLocation"),
    )


def read_hu(path: str | os.PathLike) -> np.ndarray:
    """The pixels of one slice: int16 (rows, cols), Hounsfield units, at least -1024.

    Padding becomes -1024 HU. A missing or impossible rescale is replaced by what the
    stored numbers imply (see :func:`rescale_of`).

    Raises:
        DataError: not a slice, cut short, or compressed in a way no decoder here knows.
    """
    path = Path(path)
    dataset = _dcmread(path)
    native = not dataset.file_meta.TransferSyntaxUID.is_encapsulated
    try:
        # Many plain files hold more than the bits that they declare; cutting those off would
        # turn bright pixels and padding into tissue.
        dataset.pixel_array_options(correct_unused_bits=not native)
        raw = dataset.pixel_array
    except Exception as error:  # every decoder raises its own kinds
        reason = f"the pixels cannot be decoded ({_first_line(error)})"
        raise DataError(path, reason, _COPY_AGAIN) from error
    if raw.ndim != 2:
        reason = f"pixels of shape {raw.shape}, not one grey slice (rows, cols)"
        raise DataError(path, reason, "export the series as single-frame CT images")
    if native:
        raw = _sign_extend(dataset, raw)
    return _rescale(dataset, raw)


def rescale_of(dataset: pydicom.Dataset, raw: np.ndarray) -> tuple[float, float]:
    """Slope and intercept that turn stored numbers into Hounsfield units.

    The header's own, where they can be right. A slope that is missing, zero or not a
    number is 1. CT needs negative values for air: unsigned numbers with no intercept, or
    with zero, carry the usual offset of -1024, and so do signed ones with no intercept
    that hold nothing as dark as air; the other signed ones are HU already.
    """
    slope = _number(dataset, "RescaleSlope") or 1.0
    intercept = _number(dataset, "RescaleIntercept")
    signed = raw.dtype.kind == "i"
    if intercept is not None and (intercept or signed):
        return slope, intercept
    # Padding such as -2000 is no sign of stored HU: look between it and tissue.
    holds_air = signed and bool(((raw > -1500) & (raw * slope < -200)).any())
    return slope, 0.0 if holds_air else _USUAL_INTERCEPT


def _rescale(dataset: pydicom.Dataset, raw: np.ndarray) -> np.ndarray:
    if "ModalityLUTSequence" in dataset:
        hu = apply_modality_lut(raw, dataset)
        return np.clip(np.rint(hu), HU_MIN, HU_MAX).astype(np.int16)
    slope, intercept = rescale_of(dataset, raw)
    if slope == 1.0 and intercept.is_integer():
        hu = raw.astype(np.int32)
        hu += int(intercept)
    else:
        hu = np.rint(raw.astype(np.float64) * slope + intercept)
    np.clip(hu, HU_MIN, HU_MAX, out=hu)
    hu16 = hu.astype(np.int16)
    padding = _padding(dataset, raw, slope, intercept)
    if padding is not None:
        hu16[padding] = HU_MIN
    return hu16


def _padding(
    dataset: pydicom.Dataset, raw: np.ndarray, slope: float, intercept: float
) -> np.ndarray | None:
    """Where the pixels are filling outside the scan: bool (rows, cols), or None."""
    first = _number(dataset, "PixelPaddingValue")
    if first is None:
        return None
    last = _number(dataset, "PixelPaddingRangeLimit")
    low, high = sorted(
        _as_stored(value, raw.dtype) for value in (first, first if last is None else last)
    )
    where = (raw >= low) & (raw <= high)
    if not where.any():
        return None
    if high * slope + intercept < -990 or low * slope + intercept > 2500:
        return where
    # The value is one that tissue has as well: only what hangs together with a corner is filling.
    count, parts = cv2.connectedComponents(where.astype(np.uint8), connectivity=4)
    corners = {int(parts[row, col]) for row in (0, -1) for col in (0, -1)} - {0}
    return np.isin(parts, list(corners)) if corners and count > 1 else None


def _as_stored(value: float, dtype: np.dtype) -> int:
    """A padding value written with the wrong sign (63536 for -2000) in the pixels' own type."""
    bits = 8 * dtype.itemsize
    wrapped = int(value) % (1 << bits)
    return wrapped - (1 << bits) if dtype.kind == "i" and wrapped >> (bits - 1) else wrapped


def _sign_extend(dataset: pydicom.Dataset, raw: np.ndarray) -> np.ndarray:
    """Signed numbers stored in fewer bits than allocated, without their sign spread upwards."""
    stored = int(_number(dataset, "BitsStored") or 16)
    bits = 8 * raw.dtype.itemsize
    if raw.dtype.kind != "i" or stored >= bits or _number(dataset, "RescaleIntercept"):
        return raw
    low, high = int(raw.min()), int(raw.max())
    if low >= 0 and (1 << (stored - 1)) <= high < (1 << stored):
        return (raw << (bits - stored)) >> (bits - stored)
    return raw


def _dcmread(path: Path, **options: object) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(path, **options)  # type: ignore[arg-type]
    except FileNotFoundError:
        raise DataError(path, "no such file", "check the path") from None
    except pydicom.errors.InvalidDicomError:
        pass
    except Exception as error:
        raise DataError(path, f"unreadable header ({_first_line(error)})", _COPY_AGAIN) from error
    # Old files lack the preamble; anything else lacks the class of the object too.
    try:
        dataset = pydicom.dcmread(path, force=True, **options)  # type: ignore[arg-type]
    except Exception as error:
        raise DataError(path, f"unreadable header ({_first_line(error)})", _COPY_AGAIN) from error
    if "SOPClassUID" not in dataset:
        size = path.stat().st_size
        raise DataError(path, f"not a DICOM file ({size} bytes)", _COPY_AGAIN)
    if not hasattr(dataset.file_meta, "TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    return dataset


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _value(dataset: pydicom.Dataset, keyword: str) -> object:
    try:
        return dataset.get(keyword)
    except Exception:  # a value that cannot be converted counts as absent
        return None


def _text(dataset: pydicom.Dataset, keyword: str) -> str:
    value = _value(dataset, keyword)
    return "" if value is None else str(value).strip().strip("\0")


def _texts(dataset: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
    value = _value(dataset, keyword)
    if value is None:
        return ()
    values = value if isinstance(value, MultiValue | list) else [value]
    return tuple(str(item).strip().upper() for item in values)


def _number(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """The first finite number of an element, or None."""
    value = _value(dataset, keyword)
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if len(value) else None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _integer(dataset: pydicom.Dataset, keyword: str) -> int | None:
    number = _number(dataset, keyword)
    return None if number is None else int(number)


def _numbers(dataset: pydicom.Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    value = _value(dataset, keyword)
    if not isinstance(value, MultiValue | list) or len(value) != count:
        return None
    try:
        numbers = tuple(float(item) for item in value)
    except (TypeError, ValueError):
        return None
    return numbers if all(math.isfinite(number) for number in numbers) else None


def _positive(numbers: Sequence[float] | None) -> tuple[float, ...] | None:
    return tuple(numbers) if numbers is not None and min(numbers) > 0 else None
