"""Reads the pixels of DICOM slices as Hounsfield units, however they were stored."""

import os
import re
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut, get_decoder
from pydicom.uid import UID

from pe_unified.ct.codestream import require_size
from pe_unified.ct.dicom_file import LARGEST_SLICE, is_compressed, open_dicom
from pe_unified.ct.frames import Frame, frame_dataset
from pe_unified.ct.headers import number_of
from pe_unified.ct.hu import HU_MAX, HU_MIN
from pe_unified.ct.jpeg import JPEG_SYNTAXES, PLUGIN
from pe_unified.errors import COPY_OR_REMOVE, DataError

#: The JPEG standard of 1992, which DCMTK and GDCM fully support; not its successors.
_JPEG = re.compile(r"JPEG (?!2000|XL)")
#: Transfer syntaxes of the standard that pydicom does not list.
_YOUNG_SYNTAXES = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}
#: Slope and intercept; None if unknown.
Rescale = tuple[float | None, float | None]
#: The rescale intercept of scanners that store CT as unsigned numbers.
_USUAL_INTERCEPT = -1024.0
#: Darker than tissue; darker than water beyond noise, HU; minimum share of a slice.
_AIR, _FAT, _SOME = -200.0, -30.0, 0.001
#: No slice of a body is entirely above this, HU.
_DENSE = 500.0


def read_hu(
    path: str | os.PathLike, frame: Frame | None = None, rescale: Rescale = (None, None)
) -> np.ndarray:
    """The pixels of one slice: int16 (rows, cols), Hounsfield units, at least -1024.

    Padding becomes -1024 HU. A missing or impossible rescale is replaced by the one that the
    stored numbers imply (see :func:`rescale_of`).

    Args:
        path: the file.
        frame: of a multi-frame file, the frame to read.
        rescale: of the scan, for a slice that does not state one.

    Raises:
        DataError: not a slice, truncated, far too large, or compressed in a way that no decoder
            here supports.
    """
    path = Path(path)
    dataset = _open_slice(path) if frame is None else _open_frame(path, frame)
    for keyword, value in zip(("RescaleSlope", "RescaleIntercept"), rescale, strict=True):
        if value is not None and number_of(dataset, keyword) is None:
            setattr(dataset, keyword, value)
    try:
        syntax = dataset.file_meta.TransferSyntaxUID
        native = not is_compressed(dataset)
        if not native:
            _require_decoder(syntax)
        if "PixelData" not in dataset:
            raise EOFError("the file ends before the pixels do")
        raw = _plain_pixels(dataset) if native else None
        if raw is None:
            if not native:
                require_size(dataset)
            # Many uncompressed files hold more bits than they declare; cutting these off would turn
            # bright pixels and padding into tissue.
            dataset.pixel_array_options(
                correct_unused_bits=not native,
                decoding_plugin=PLUGIN if syntax in JPEG_SYNTAXES else "",
            )
            raw = dataset.pixel_array
    except (KeyboardInterrupt, SystemExit):
        raise
    except DataError as error:
        raise error.at(path) from None
    except BaseException as error:  # each decoder raises different errors; those in Rust panic
        raise _undecodable(path, error) from error
    if raw.ndim != 2:
        reason = f"pixels of shape {raw.shape}, not one grey slice (rows, cols)"
        raise DataError(path, reason, "export the series as single-frame CT images")
    try:
        if native:
            raw = _sign_extend(dataset, raw)
        return _rescale(dataset, raw)
    except DataError as error:
        raise error.at(path) from None
    except Exception as error:  # a damaged header may hold anything
        reason = "the pixels cannot be turned into Hounsfield units"
        raise DataError(path, reason, COPY_OR_REMOVE, error) from error


def _undecodable(path: Path, error: BaseException) -> DataError:
    return DataError(path, "the pixels cannot be decoded", COPY_OR_REMOVE, error)


def _open_slice(path: Path) -> pydicom.Dataset:
    _refuse_large(path)
    return open_dicom(path)


def _open_frame(path: Path, frame: Frame) -> pydicom.Dataset:
    try:
        return frame_dataset(path, frame)
    except DataError:
        raise
    except Exception as error:  # offsets in a damaged file may point anywhere
        raise _undecodable(path, error) from error


def _require_decoder(syntax: UID) -> None:
    """Refuse a compression that cannot be decoded here; another copy would not help.

    Raises:
        DataError: says how to convert it.
    """
    with suppress(NotImplementedError):
        if get_decoder(syntax).is_available:
            return
    name = _YOUNG_SYNTAXES.get(syntax, syntax.name)
    cure = "export the series from the archive without compression"
    if _JPEG.match(name):
        cure = "convert it, e.g. by dcmdjpeg (DCMTK) or gdcmconv --raw (GDCM)"
    raise DataError("the slice", f"compressed as {name}, which is not supported", cure)


def _refuse_large(path: Path) -> None:
    """Refuse a file larger than any slice, because all of it would be read."""
    try:
        size = path.stat().st_size
    except OSError:  # the reader gives the better message
        return
    if size > LARGEST_SLICE:
        raise DataError(path, f"{size >> 20} MiB, far more than a slice", COPY_OR_REMOVE)


def _plain_pixels(dataset: pydicom.Dataset) -> np.ndarray | None:
    """The usual uncompressed 16-bit slice, without copying; None for anything else."""
    data = dataset.get("PixelData")
    rows, cols = dataset.Rows, dataset.Columns
    usual = (
        isinstance(data, bytes)
        and len(data) == 2 * rows * cols
        and dataset.BitsAllocated == 16
        and dataset.SamplesPerPixel == 1
        and dataset.get("NumberOfFrames") in (None, 1)
        and dataset.file_meta.TransferSyntaxUID.is_little_endian
    )
    if not usual:
        return None
    dtype = "<i2" if dataset.PixelRepresentation == 1 else "<u2"
    return np.frombuffer(data, dtype).reshape(rows, cols)


def rescale_of(dataset: pydicom.Dataset, raw: np.ndarray) -> tuple[float, float]:
    """Slope and intercept that turn stored numbers into Hounsfield units.

    The header's values are used if they can be right. A slope that is missing, zero or not a
    number becomes 1. CT needs negative values for air. So unsigned numbers with a missing or
    zero intercept get the usual offset of -1024, and so do signed ones without an intercept that
    contain no air and almost no fat; other signed ones are already HU.

    Raises:
        DataError: no intercept, and the usual one does not give the values of a body.
    """
    slope = number_of(dataset, "RescaleSlope") or 1.0
    intercept = number_of(dataset, "RescaleIntercept")
    signed = raw.dtype.kind == "i"
    if intercept is not None and (intercept or signed):
        return slope, intercept
    if signed:
        # Padding such as -2000 does not prove stored HU: look at values between it and tissue.
        hu = raw[raw > -1500] * slope
        if (hu < _AIR).any() or (hu < _FAT).sum() > _SOME * raw.size:
            return slope, 0.0
    lowest = float(raw.min()) * slope + _USUAL_INTERCEPT
    if lowest > _DENSE:
        raise DataError(
            "the header",
            f"no RescaleIntercept; with the usual one, the lowest value is {lowest:.0f} HU",
            "restore the header's RescaleSlope and RescaleIntercept",
        )
    return slope, _USUAL_INTERCEPT


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
    """Pixels that are padding outside the scan: bool (rows, cols), or None."""
    first = number_of(dataset, "PixelPaddingValue")
    if first is None:
        return None
    last = number_of(dataset, "PixelPaddingRangeLimit")
    low, high = sorted(
        _as_stored(value, raw.dtype) for value in (first, first if last is None else last)
    )
    where = (raw >= low) & (raw <= high)
    if not where.any():
        return None
    if high * slope + intercept < -990 or low * slope + intercept > 2500:
        return where
    # Tissue has this value, too, so only regions connected to a corner are padding.
    count, parts = cv2.connectedComponents(where.astype(np.uint8), connectivity=4)
    corners = {int(parts[row, col]) for row in (0, -1) for col in (0, -1)} - {0}
    return np.isin(parts, list(corners)) if corners and count > 1 else None


def _as_stored(value: float, dtype: np.dtype) -> int:
    """A padding value written with the wrong sign (63536 for -2000) in the pixels' own type."""
    bits = 8 * dtype.itemsize
    wrapped = int(value) % (1 << bits)
    return wrapped - (1 << bits) if dtype.kind == "i" and wrapped >> (bits - 1) else wrapped


def _sign_extend(dataset: pydicom.Dataset, raw: np.ndarray) -> np.ndarray:
    """Restore the sign of numbers stored in fewer bits than allocated without sign extension."""
    stored = int(number_of(dataset, "BitsStored") or 16)
    bits = 8 * raw.dtype.itemsize
    if raw.dtype.kind != "i" or stored >= bits or number_of(dataset, "RescaleIntercept"):
        return raw
    low, high = int(raw.min()), int(raw.max())
    if low >= 0 and (1 << (stored - 1)) <= high < (1 << stored):
        return (raw << (bits - stored)) >> (bits - stored)
    return raw
