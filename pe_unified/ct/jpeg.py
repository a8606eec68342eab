"""Decodes JPEG slices with the GDCM inside SimpleITK, as a pydicom decoder plugin.

pydicom's own JPEG decoders are a package under the GPL, or lack lossy 12-bit images. GDCM reads
all JPEG processes used in DICOM (ITU-T T.81) and refuses truncated streams.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
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
from pe_unified.ct.temporary_folder import PREFIX

#: Name of the decoder in pydicom, which looks names up in lower case.
PLUGIN = "simpleitk"
#: Supported JPEG processes: 1, 2 and 4, 14, and 14 with first-order prediction.
JPEG_SYNTAXES = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)


def is_available(uid: str) -> bool:
    """pydicom calls this for every plugin."""
    return uid in JPEG_SYNTAXES


def decode_frame(stream: bytes, runner: DecodeRunner) -> bytes:
    """The pixels of one frame, row by row, in the width that the header allocates.

    Raises:
        ValueError: the stream is damaged, truncated or of another size.
    """
    import SimpleITK as sitk  # 100 MB, loaded only when needed

    frame = jpeg_frame(stream)
    samples, allocated = runner.samples_per_pixel, runner.bits_allocated
    # GDCM trusts the frame header: with wrong numbers it writes beyond its buffers.
    if frame is None or frame.components != samples or not 2 <= frame.precision <= allocated:
        raise ValueError(f"a JPEG stream of {frame} for {samples} samples of {allocated} bits")
    with TemporaryDirectory(prefix=PREFIX) as folder:
        path = Path(folder, "frame.dcm")
        dcmwrite(path, _alone(stream, runner))
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        try:
            pixels = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            raise ValueError("the JPEG stream is damaged or cut short") from error
    return pixels.astype(f"<u{allocated // 8}", copy=False).tobytes()


def _alone(stream: bytes, runner: DecodeRunner) -> Dataset:
    """The frame as a separate DICOM object, without rescaling.

    The sign is left to pydicom, which extends it over the allocated bits.
    """
    alone = Dataset()
    alone.preamble = bytes(128)
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = runner.transfer_syntax
    alone.SOPClassUID = SecondaryCaptureImageStorage
    alone.SamplesPerPixel = runner.samples_per_pixel
    alone.PhotometricInterpretation = runner.photometric_interpretation
    alone.Rows, alone.Columns = runner.rows, runner.columns
    alone.BitsAllocated, alone.BitsStored = runner.bits_allocated, runner.bits_stored
    alone.HighBit = runner.bits_stored - 1
    alone.PixelRepresentation = 0
    alone.PixelData = encapsulate([stream], has_bot=False)
    return alone


for _syntax in JPEG_SYNTAXES:
    get_decoder(_syntax).add_plugin(PLUGIN, (__name__, decode_frame.__name__))
