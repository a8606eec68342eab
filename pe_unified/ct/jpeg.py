"""JPEG slices through the GDCM inside SimpleITK, as a decoder that pydicom calls.

pydicom's own ways to JPEG are a package under the GPL, or lack 12-bit lossy pictures. GDCM reads
all that DICOM knows as JPEG (ITU-T T.81) and refuses streams that are cut short.
"""

import struct
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import (
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    SecondaryCaptureImageStorage,
)

from pe_unified.ct.codestream import jpeg_frame
from pe_unified.ct.scratch import PREFIX

#: The name of the decoder within pydicom, which looks names up in lower case.
PLUGIN = "simpleitk"
#: What it reads: processes 1, 2 and 4, 14, and 14 with the first-order prediction.
JPEG_SYNTAXES = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)


def is_available(uid: str) -> bool:
    """Asked by pydicom of every plugin."""
    return uid in JPEG_SYNTAXES


def decode_frame(stream: bytes, runner: DecodeRunner) -> bytes:
    """The numbers of one frame in the order of rows, as wide as the header allocates.

    Raises:
        ValueError: the stream is damaged, cut short or of another size.
    """
    import SimpleITK as sitk  # 100 MB that readers of anything else do without

    frame = jpeg_frame(stream)
    samples, allocated = runner.samples_per_pixel, runner.bits_allocated
    # GDCM trusts the frame header: one of other numbers makes it write beyond its rooms.
    if frame is None or frame.components != samples or not 2 <= frame.precision <= allocated:
        raise ValueError(f"a JPEG stream of {frame} for {samples} samples of {allocated} bits")
    with TemporaryDirectory(prefix=PREFIX) as folder:
        path = Path(folder, "frame.dcm")
        path.write_bytes(_file(stream, runner))
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        try:
            pixels = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            raise ValueError("the JPEG stream is damaged or cut short") from error
    return pixels.astype(f"<u{allocated // 8}", copy=False).tobytes()


def _file(stream: bytes, runner: DecodeRunner) -> bytes:
    """A DICOM file of the frame alone (PS3.10 7.1; PS3.5 A.4), with nothing to rescale by.

    Signs are left to pydicom, which spreads them over the bits that are allocated.
    """
    syntax = _element(0x00020010, b"UI", str(runner.transfer_syntax).encode("ascii"))
    frame = stream + b"\0" * (len(stream) % 2)
    return b"".join(
        (
            bytes(128),
            b"DICM",
            _element(0x00020000, b"UL", struct.pack("<L", len(syntax))),
            syntax,
            _element(0x00080016, b"UI", str(SecondaryCaptureImageStorage).encode("ascii")),
            _number(0x00280002, runner.samples_per_pixel),
            _element(0x00280004, b"CS", str(runner.photometric_interpretation).encode("ascii")),
            _number(0x00280010, runner.rows),
            _number(0x00280011, runner.columns),
            _number(0x00280100, runner.bits_allocated),
            _number(0x00280101, runner.bits_stored),
            _number(0x00280102, runner.bits_stored - 1),
            _number(0x00280103, 0),
            struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF),
            _item(0xE000, b""),
            _item(0xE000, frame),
            _item(0xE0DD, b""),
        )
    )


def _element(tag: int, kind: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, kind, len(value)) + value


def _number(tag: int, value: int) -> bytes:
    return _element(tag, b"US", struct.pack("<H", value))


def _item(element: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, element, len(value)) + value


for _syntax in JPEG_SYNTAXES:
    get_decoder(_syntax).add_plugin(PLUGIN, (__name__, decode_frame.__name__))
