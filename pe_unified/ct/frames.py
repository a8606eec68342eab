"""Presents each frame of an enhanced multi-frame file as a single slice.

Attributes that classic CT gives once per file are in functional groups here, shared by all frames
or per frame (DICOM PS3.3, C.7.6.16).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pe_unified.ct.dicom_file import UNCOMPRESSED, is_compressed, open_binary
from pe_unified.errors import DataError

_PIXEL_DATA = Tag("PixelData")
#: Offsets and lengths of compressed frames.
_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
#: Elements that describe the pixels of all frames.
_PIXELS = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
    *_OFFSETS,
)
#: Position of the frame in its stack: the only dimensions along which frames form one scan.
_ALONG = ("ImagePositionPatient", "InStackPositionNumber")
#: Attributes that separate the scans of one file, in addition to its own dimensions.
_APART = ("FrameAcquisitionNumber", "StackID", "TemporalPositionIndex", "FrameType")
#: Attributes with different names in functional groups and in single-slice files.
_CLASSIC = {"FrameType": "ImageType", "FrameAcquisitionNumber": "AcquisitionNumber"}

#: Elements read from a multi-frame header in addition to those of a slice.
FRAME_TAGS = tuple(
    Tag(keyword)
    for keyword in (
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "DimensionIndexSequence",
        "ContrastBolusAgentSequence",
        "ConcatenationFrameOffsetNumber",
    )
)


@dataclass(frozen=True)
class Frame:
    """One frame of a file.

    Attributes:
        number: from 1.
        slope: with ``intercept``, converts stored numbers to HU; None if the file does not give it.
        pixels: elements that describe the pixels of every frame of the file.
        start: offset of the pixels in the file, bytes.
    """

    number: int
    slope: float | None
    intercept: float | None
    pixels: Dataset = field(repr=False, compare=False)
    start: int = field(repr=False, compare=False)


def is_multiframe(dataset: Dataset) -> bool:
    """Whether an object describes each of its frames, like Enhanced CT."""
    return bool(dataset.get("PerFrameFunctionalGroupsSequence"))


def pixels_of(path: Path) -> tuple[Dataset, int]:
    """The elements that describe the pixels of a multi-frame file, and their offset, bytes.

    Raises:
        DataError: deflated as a whole, so that no single frame can be read.
    """
    with open_binary(path) as file:
        dataset = pydicom.dcmread(
            file, force=True, stop_before_pixels=True, specific_tags=list(_PIXELS)
        )
        if dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
            reason = "deflated as a whole; no frame can be read by itself"
            raise DataError(path, reason, UNCOMPRESSED)
        return dataset, file.tell()


def as_slices(dataset: Dataset) -> Iterator[Dataset]:
    """The header of every frame, in the order of the file, with the elements of a classic slice.

    Frames of one acquisition that differ in more than their position (stack, phase, kind of
    image) get different acquisition numbers, so that they are not treated as one scan.
    """
    top = Dataset({e.tag: e for e in dataset.values() if e.tag not in FRAME_TAGS})
    if "ContrastBolusAgentSequence" in dataset:
        _put(top, "ContrastBolusAgent", _agents(dataset))
    shared = _flat(dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])
    first = int(dataset.get("ConcatenationFrameOffsetNumber") or 0) + 1
    frames = []
    for number, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=first):
        frame = Dataset()
        for part in (top, shared, _flat([groups])):
            frame.update(part)
        _put(frame, "InstanceNumber", number)
        frames.append(frame)
    dimensions = _other_dimensions(dataset)
    numbers = _acquisitions([_apart(frame, dimensions) for frame in frames])
    for frame, acquisition in zip(frames, numbers, strict=True):
        for group, classic in _CLASSIC.items():
            if group in frame:
                _put(frame, classic, frame[group].value)
        if acquisition is not None:
            _put(frame, "AcquisitionNumber", acquisition)
        usage = frame.get("ContrastBolusUsageSequence")
        if usage and all(item.get("ContrastBolusAgentAdministered") == "NO" for item in usage):
            _put(frame, "ContrastBolusAgent", "NONE")
    yield from frames


def _put(dataset: Dataset, keyword: str, value: object) -> None:
    """Set an element without changing the one shared with other datasets."""
    dataset.add_new(keyword, dictionary_VR(keyword), value)


def _flat(items: list[Dataset]) -> Dataset:
    """The functional groups of the first of ``items``, together with the elements of the first
    item of each group; some groups have several items."""
    flat = Dataset()
    for group in items[0]:
        if group.VR == "SQ" and group.value:
            flat.add(group)
            flat.update(group.value[0])
    return flat


def _agents(dataset: Dataset) -> str:
    agents = dataset.get("ContrastBolusAgentSequence") or []
    return ", ".join(str(agent.get("CodeMeaning") or "") for agent in agents)


def _other_dimensions(dataset: Dataset) -> list[int]:
    """The dimensions of the file that are not a position within a stack."""
    pointers = [
        item.get("DimensionIndexPointer") for item in dataset.get("DimensionIndexSequence") or []
    ]
    return [
        number
        for number, pointer in enumerate(pointers)
        if not isinstance(pointer, BaseTag) or pointer not in map(Tag, _ALONG)
    ]


def _apart(frame: Dataset, dimensions: list[int]) -> tuple:
    """The values that frames of one scan share; the acquisition comes first."""
    values = [frame.get(keyword) for keyword in _APART]
    index = frame.get("DimensionIndexValues")
    index = [index] if isinstance(index, int) else list(index or [])
    values += [index[number] for number in dimensions if number < len(index)]
    return tuple(
        (value is not None, value if isinstance(value, int) else str(value)) for value in values
    )


def _acquisitions(keys: list[tuple]) -> list[int | None]:
    """An acquisition number per frame, equal within a scan; None for all if the file's own
    numbers already separate the scans."""
    apart = sorted(set(keys))
    if len(apart) == len({key[0] for key in apart}):
        return [None] * len(keys)
    numbers = {key: number for number, key in enumerate(apart, start=1)}
    return [numbers[key] for key in keys]


def frame_dataset(path: Path, frame: Frame) -> Dataset:
    """A frame as a single slice with pixels; reads no more of the file than these.

    Raises:
        EOFError: the file ends too early.
        ValueError: the pixels are not where they should be.
    """
    one = Dataset()
    one.update(frame.pixels)  # passed to Dataset() directly, they would share one table of elements
    one.file_meta = frame.pixels.file_meta
    given = (one.pop(keyword, None) for keyword in _OFFSETS)
    offsets: list[Any] = [each.value for each in given if each is not None and each.value]
    _put(one, "NumberOfFrames", 1)
    for keyword, value in (("RescaleSlope", frame.slope), ("RescaleIntercept", frame.intercept)):
        if value is not None:
            _put(one, keyword, value)
    implicit, little = frame.pixels.original_encoding
    order: Literal["little", "big"] = "little" if little else "big"
    with open_binary(path) as file:
        file.seek(frame.start)
        head = file.read(8 if implicit else 12)
        group, element = (int.from_bytes(head[at : at + 2], order) for at in (0, 2))
        if (group, element) != (_PIXEL_DATA.group, _PIXEL_DATA.element):
            raise ValueError("no pixels of whole numbers")
        if is_compressed(one):
            data = get_frame(
                file,
                frame.number - 1,
                number_of_frames=int(frame.pixels.NumberOfFrames),
                extended_offsets=(offsets[0], offsets[1]) if len(offsets) == 2 else None,
            )
            one.add_new(_PIXEL_DATA, "OB", encapsulate([data]))
            return one
        shape = (one.Rows, one.Columns, one.SamplesPerPixel, one.BitsAllocated)
        size = math.prod(map(int, shape)) // 8
        file.seek(size * (frame.number - 1), 1)
        data = file.read(size)
        if len(data) < size:
            raise EOFError("the file ends before the pixels do")
        one.add_new(_PIXEL_DATA, "OW" if one.BitsAllocated > 8 else "OB", data)
    return one
