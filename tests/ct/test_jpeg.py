"""JPEG slices against what was packed, and against the reference that DCMTK is."""

import base64
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from dicom_files import slice_dataset, write_jpeg
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

from pe_unified.ct.dicom import read_hu
from pe_unified.errors import DataError

#: Ramps of 16 x 24 pixels as dcmcjpeg packs them, 12 bits (+ee) and 8 bits (+eb), and the first row
#: and the sum of what dcmdjpeg unpacks.
LOSSY = {
    JPEGExtended12Bit: (
        "|JeWF01!$>Nk#wx0RR9200961|JwjV00IF40RaI50RaI50s;a81OoyB0s;jD1Oo&H1qKEN1qKEN2MGuU2MGrT1"
        "_%oX2?`1d3JL}Y3k(Yi3<(Mf3je_X3k(1d02l!Q5di<h02KfM0RR9100000000000000C4gbUd91s8i1_J;9000"
        "00000000000A3@0~4Rbg`f+5iXv0RR9$0FsuS(2fvmL5`!wgTNEI5yA~<G1Pd_cmj7qI6<ujI*%F>57W94!VPF"
        "K)OgT%0(U|<L9GTlj~WjEPUuGnHK4~)<3s=1",
        12,
        range(0, 2880, 120),
        673920,
    ),
    JPEGBaseline8Bit: (
        "|JeWF01!$>Nk#wx0RR9200961|JwjV00IF40RaI50RaI50s;a81OoyB0s;jD1Oo&H1qKEN1qKEN2MGuU2MGrT1"
        "_%oX2?`1d3JL}Y3k(Yi3<(Mf3je?W3kU!Z02l!Q5di<h02KfM0RR910000000000000083ID_Z8V~>g2LJ#70000"
        "000000000062qQB=QUBTi2mt{A06zedN!X18SwY~Ph|o2Z9tqfu16e{rr(!e>We0+GBS6+rcqd{s4P_7i|Je",
        8,
        [x * 15 // 2 for x in range(24)],
        41988,
    ),
}
with_dcmtk = pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="DCMTK is not installed")


def packed_slice(path, stream, syntax, shape, bits):
    """A slice around a JPEG stream; HU = stored."""
    ds = slice_dataset(np.zeros(shape, np.uint16 if bits > 8 else np.uint8), RescaleIntercept=-1)
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR = "OB"
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", LOSSY, ids=lambda uid: uid.keyword)
def test_lossy_slices_as_the_reference_unpacks_them(tmp_path, syntax):
    text, bits, first_row, total = LOSSY[syntax]
    path = packed_slice(tmp_path / "a.dcm", base64.b85decode(text), syntax, (16, 24), bits)
    stored = read_hu(path).astype(int) + 1
    np.testing.assert_array_equal(stored[0], list(first_row))
    assert stored.sum() == total


@with_dcmtk
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("how", "bits"),
    [
        *((how, bits) for how in ("+e1", "+el +sv 1", "+el +sv 6") for bits in (8, 10, 12, 16)),
        *(("+ee", bits) for bits in (8, 10, 12)),
        ("+eb", 8),
    ],
)
def test_every_process_and_depth(tmp_path, how, bits, signed):
    """Lossless pictures give what was packed; lossy ones what DCMTK itself unpacks."""
    truth = np.random.default_rng(bits).integers(0, 1 << bits, (40, 56)) - signed * (1 << bits - 1)
    kind = f"{'int' if signed else 'uint'}{8 if bits == 8 else 16}"
    ds = slice_dataset(truth.astype(kind), RescaleIntercept=-1)
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.save_as(tmp_path / "raw.dcm", enforce_file_format=True)
    packed, unpacked = tmp_path / "packed.dcm", tmp_path / "unpacked.dcm"
    subprocess.run(["dcmcjpeg", *how.split(), tmp_path / "raw.dcm", packed], check=True)
    expected = np.clip(truth - 1, -1024, 32767)
    if how in ("+eb", "+ee"):
        subprocess.run(["dcmdjpeg", packed, unpacked], check=True)
        expected = read_hu(unpacked)
    np.testing.assert_array_equal(read_hu(packed), expected)


@pytest.mark.parametrize("change", ["cut", "precision", "components", "no frame"])
def test_a_stream_that_is_not_whole_is_refused(tmp_path, change):
    """A decoder that goes on with what it has gives a picture half of which is invented."""
    picture = np.random.default_rng(0).integers(0, 3000, (40, 56)).astype(np.uint16)
    ds = pydicom.dcmread(write_jpeg(tmp_path / "a.dcm", picture))
    stream = bytearray(next(generate_frames(ds.PixelData, number_of_frames=1)))
    frame = stream.index(b"\xff\xc3")
    if change == "cut":
        del stream[-len(stream) // 10 :]
    elif change == "no frame":
        del stream[frame:]
    else:
        stream[frame + {"precision": 4, "components": 9}[change]] = 66
    ds.PixelData = encapsulate([bytes(stream)])
    ds.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    with pytest.raises(DataError, match=r"b\.dcm: the pixels cannot be decoded"):
        read_hu(tmp_path / "b.dcm")
