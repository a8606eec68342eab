"""Reads the size that a compressed image states, before a decoder allocates memory for it."""

import re
from typing import NamedTuple

import pydicom
from pydicom.encaps import generate_frames

#: Start of a JPEG 2000 codestream, followed by its size; start of a file that contains one.
_JPEG_2000, _JP2_FILE = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "
_JPEG, _FILLING = b"\xff\xd8", re.compile(b"\xff+")
#: JPEG markers with the size of the image: every SOF, and that of JPEG-LS.
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
#: Maximum size of a compressed slice, as a multiple of its pixels, plus some bytes for headers.
_MOST_PACKED, _HEADERS = 2, 1 << 16


def require_size(dataset: pydicom.Dataset) -> None:
    """Refuse a compressed slice whose image differs in size from its header.

    A decoder allocates the size stated in the image, which may be thousands of times that of the
    slice.

    Raises:
        ValueError: the sizes differ, or there are more compressed bytes than a slice can need.
    """
    rows, cols = int(dataset.Rows), int(dataset.Columns)
    pixels = rows * cols * int(dataset.BitsAllocated) // 8
    if len(dataset.PixelData) > _MOST_PACKED * pixels + _HEADERS:
        raise ValueError(f"{len(dataset.PixelData)} compressed bytes for {pixels} of pixels")
    size = picture_size(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    if size is not None and size != (rows, cols):
        raise ValueError(f"a picture of {size[0]} x {size[1]} in a slice of {rows} x {cols}")


class JpegFrame(NamedTuple):
    """The frame header of a JPEG or JPEG-LS stream.

    Attributes:
        precision: bits per sample.
        rows: 0 if given only after the image.
        components: samples per pixel.
    """

    precision: int
    rows: int
    cols: int
    components: int


def picture_size(stream: bytes) -> tuple[int, int] | None:
    """(rows, cols) stated in a JPEG, JPEG-LS or JPEG 2000 stream; None for anything else.

    Source: ITU-T T.800 (JPEG 2000) A.5.1, and see :func:`jpeg_frame`.
    """
    start = 0
    if stream.startswith(_JP2_FILE):
        start = stream.find(_JPEG_2000)
    if stream.startswith((_JPEG_2000, _JP2_FILE)) and 0 <= start <= len(stream) - 24:
        # Lengths and capabilities, then the far and the near corner of the image.
        right, bottom, left, top = (
            int.from_bytes(stream[at : at + 4], "big") for at in range(start + 8, start + 24, 4)
        )
        return bottom - top, right - left
    frame = jpeg_frame(stream)
    return (frame.rows, frame.cols) if frame is not None and frame.rows else None


def jpeg_frame(stream: bytes) -> JpegFrame | None:
    """The frame header of a JPEG or JPEG-LS stream; None for anything else.

    Sources: ITU-T T.81 (JPEG) B.2.2, T.87 (JPEG-LS) C.2.2.
    """
    at = 2
    while stream.startswith(_JPEG) and at + 10 <= len(stream) and stream[at] == 0xFF:
        if stream[at + 1] == 0xFF:  # any number of fill bytes may precede a marker
            at = _FILLING.match(stream, at).end() - 1  # type: ignore[union-attr]
            continue
        if stream[at + 1] in _FRAME_MARKERS:
            rows = int.from_bytes(stream[at + 5 : at + 7], "big")
            cols = int.from_bytes(stream[at + 7 : at + 9], "big")
            return JpegFrame(stream[at + 4], rows, cols, stream[at + 9])
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None
