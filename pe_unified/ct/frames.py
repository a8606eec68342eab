"""Frames of an enhanced multi-frame file, each as the slice that it is.

What classic CT says once per file stands here in functional groups, shared by all frames or a
frame's own (DICOM PS3.3, C.7.6.16).
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
#: Where compressed frames begin, and how long they are.
_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
#: What describes the pixels of all frames.
_PIXELS = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
    *_OFFSETS,
)
#: Where the frame lies in its stack: the only dimensions along which frames form one scan.
_ALONG = ("ImagePositionPatient", "InStackPositionNumber")
#: What tells the scans of one file apart, beside its own dimensions.
_APART = ("FrameAcquisitionNumber", "StackID", "TemporalPositionIndex", "FrameType")
#: What a functional group names differently than a single-slice file.
_CLASSIC = {"FrameType": "ImageType", "FrameAcquisitionNumber": "AcquisitionNumber"}

#: What is read of a multi-frame header beside that of a slice.
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
        slope: with ``intercept``, turns stored numbers into HU; None where the file does not say.
        pixels: what describes the pixels of every frame of the file.
        start: where they begin in the file, bytes.
    """

    number: int
    slope: float | None
    intercept: float | None
    pixels: Dataset = field(repr=False, compare=False)
    start: int = field(repr=False, compare=False)


def is_multiframe(dataset: Dataset) -> bool:
    """Whether an object describes its frames one by one, as Enhanced CT does."""
    return bool(dataset.get("PerFrameFunctionalGroupsSequence"))


def pixels_of(path: Path) -> tuple[Dataset, int]:
    """What describes the pixels of a multi-frame file, and where they begin, bytes.

    Raises:
        DataError: deflated as a whole, so that no frame can be read by itself.
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

    Frames of one acquisition that differ in anything but their place (stack, phase, kind of
    image) get acquisition numbers of their own, so that nobody takes them for one scan.
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
    """Set an element without changing the one that other datasets share."""
    dataset.add_new(keyword, dictionary_VR(keyword), value)


def _flat(items: list[Dataset]) -> Dataset:
    """The functional groups in the first of ``items``, and beside them the elements of each one's
    first item: some groups have several items."""
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
    """Which dimensions of the file are no place within a stack."""
    pointers = [
        item.get("DimensionIndexPointer") for item in dataset.get("DimensionIndexSequence") or []
    ]
    return [
        number
        for number, pointer in enumerate(pointers)
        if not isinstance(pointer, BaseTag) or pointer not in map(Tag, _ALONG)
    ]


def _apart(frame: Dataset, dimensions: list[int]) -> tuple:
    """What frames of one scan share; the acquisition goes first."""
    values = [frame.get(keyword) for keyword in _APART]
    index = frame.get("DimensionIndexValues")
    index = [index] if isinstance(index, int) else list(index or [])
    values += [index[number] for number in dimensions if number < len(index)]
    return tuple(
        (value is not None, value if isinstance(value, int) else str(value)) for value in values
    )


def _acquisitions(keys: list[tuple]) -> list[int | None]:
    """A number for every frame, the same for those of one scan; None for all where the file's own
    acquisition numbers tell scans apart."""
    apart = sorted(set(keys))
    if len(apart) == len({key[0] for key in apart}):
        return [None] * len(keys)
    numbers = {key: number for number, key in enumerate(apart, start=1)}
    return [numbers[key] for key in keys]


def frame_dataset(path: Path, frame: Frame) -> Dataset:
    """A frame as a slice of its own, pixels included; of the file no more than these are read.

    Raises:
        EOFError: the file ends before.
        ValueError: the pixels are not where they should be.
    """
    one = Dataset()
    one.update(frame.pixels)  # given to Dataset() itself, they would share one table of elements
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
