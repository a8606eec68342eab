"""What strangers send: makers of broken studies, and what must be said of each."""

import io
import os
import stat
import tarfile
import zipfile
import zlib

import nibabel
import numpy as np
import pydicom
from dicom_files import write_hu, write_slice
from openjpeg.utils import encode_array as encode

HU = np.random.default_rng(0).normal(0, 300, (64, 64)).astype(np.int16)


def series(folder, count=10, **elements):
    for k in range(count):
        write_hu(folder / f"{k}.dcm", HU, z=2.0 * k, **elements)
    return folder


def empty(folder):
    folder.mkdir()
    return folder


def pdf(folder):
    folder.mkdir()
    (folder / "letter.dcm").write_bytes(b"%PDF-1.7\n" + b"not a slice " * 200)
    return folder


def truncated(folder):
    series(folder)
    victim = folder / "4.dcm"
    victim.write_bytes(victim.read_bytes()[:900])
    (folder / "7.dcm").write_bytes((folder / "7.dcm").read_bytes()[:-4000])
    return folder


def wrong_vr(folder):
    """Rows and Columns as texts, in an otherwise whole file."""
    series(folder)
    for path in folder.iterdir():
        content = path.read_bytes()
        for tag in (b"\x28\x00\x10\x00US", b"\x28\x00\x11\x00US"):
            content = content.replace(tag, tag[:4] + b"DS")
        path.write_bytes(content)
    return folder


def flipped_bits(folder):
    series(folder)
    rng = np.random.default_rng(3)
    for path in folder.iterdir():
        content = bytearray(path.read_bytes())
        for place in rng.integers(0, 900, 60):
            content[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(content)
    return folder


def ultrasound(folder):
    return series(folder, Modality="US")


def colour(folder):
    for k in range(10):
        stored = np.zeros((64, 64, 3), np.uint8)
        elements = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}
        write_slice(folder / f"{k}.dcm", stored[..., 0], 2.0 * k, **elements)
    return folder


def eight_bits(folder):
    for k in range(10):
        write_slice(folder / f"{k}.dcm", np.zeros((64, 64), np.uint8), 2.0 * k)
    return folder


def no_spacing(folder):
    return series(folder, PixelSpacing=None)


def all_in_one_place(folder):
    for k in range(10):
        write_hu(folder / f"{k}.dcm", HU, z=1.0)
    return folder


def endless(folder):
    """3,001 slices, on disk a hole."""
    path = folder.with_suffix(".nii")
    image = nibabel.Nifti1Image(np.zeros((64, 64, 1), np.int16), np.diag([1, 1, 1, 1.0]))
    header = image.header.copy()
    header.set_data_shape((64, 64, 3001))
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.truncate(352 + 64 * 64 * 3001 * 2)
    return path


def huge_grid(folder):
    """A header of a few bytes that asks for a terabyte."""
    path = folder.with_suffix(".nii")
    header = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)).header
    header["dim"][1:4] = 20000, 20000, 20000
    path.write_bytes(header.binaryblock + bytes(4 + 128))
    return path


def zip_bomb(folder):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.dcm", bytes(16 << 20))
    return path


def deflated_bomb(folder):
    """A DICOM file whose data set, deflated, unpacks to 72 MiB."""
    folder.mkdir()
    whole = series(folder / "plain", 1) / "0.dcm"
    dataset = pydicom.dcmread(whole)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    path = folder / "0.dcm"
    dataset.save_as(path)
    start = 144 + int.from_bytes(path.read_bytes()[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(bytes(72 << 20)) + packer.flush()
    path.write_bytes(path.read_bytes()[:start] + packed)
    whole.unlink()
    return folder


def late_syntax_bomb(folder):
    """As before, but where the transfer syntax stands behind a name of thousands of letters."""
    path = deflated_bomb(folder) / "0.dcm"
    whole = path.read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    long = b"1." * 4000
    meta = b"\x02\x00\x03\x00UI" + len(long).to_bytes(2, "little") + long + whole[144:start]
    length = len(meta).to_bytes(4, "little")
    path.write_bytes(whole[:140] + length + meta + whole[start:])
    return folder


def picture_bomb(folder):
    """A JPEG 2000 picture of 2,000 x 2,000 in slices that say 64 x 64."""
    series(folder)
    packed = encode(np.zeros((2000, 2000), np.int16))
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
        dataset.PixelData = pydicom.encaps.encapsulate([packed])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    return folder


def far_too_large(folder):
    """A slice whose pixels are followed by a gigabyte of nothing."""
    series(folder)
    os.truncate(folder / "3.dcm", 1 << 30)
    return folder


def spacing_of_no_number(folder):
    series(folder)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"0.7\\0.7 ", b"NaN\\NaN "))
    return folder


def hundreds(folder):
    """301 slices as files of their own."""
    whole = (series(folder, 1) / "0.dcm").read_bytes()
    (folder / "0.dcm").unlink()
    uid = pydicom.dcmread(io.BytesIO(whole)).SOPInstanceUID.encode()
    for k in range(301):
        content = whole.replace(b"\\-100.0\\0.0 ", b"\\-100.0\\%-4d" % k)
        (folder / f"{k}").write_bytes(content.replace(uid, uid[:-4] + f"{k:04}".encode()))
    return folder


def lying_on_a_side(folder):
    return series(folder, ImageOrientationPatient=[0, 1, 0, -1, 0, 0])


def two_reconstructions(folder):
    series(folder)
    for k in range(10):
        place = [-60.0, -60.0, 2.0 * k]
        write_hu(folder / f"b{k}.dcm", HU, ImagePositionPatient=place)
    return folder


def two_fields_of_view(folder):
    series(folder)
    for k in range(10, 15):
        write_hu(folder / f"{k}.dcm", HU, z=2.0 * k, PixelSpacing=[0.9, 0.9])
    return folder


def zip_that_climbs(folder):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped.dcm", b"x")
    return path


def link_in_a_zip(folder):
    path, member = folder.with_suffix(".zip"), zipfile.ZipInfo("0.dcm")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "/etc/passwd")
    return path


def absurd_spacing(folder):
    """Metres for millimetres: one cell of a search grid would be thousands of pixels."""
    return series(folder, PixelSpacing=[7e-7, 7e-7])


def two_volumes(folder):
    folder.mkdir()
    for name in ("ct.nii", "mask.nii"):
        volume = nibabel.Nifti1Image(np.zeros((64, 64, 9), np.int16), np.eye(4))
        nibabel.save(volume, folder / name)
    return folder


def many_frames(folder):
    return series(folder, NumberOfFrames=12)


def a_name_with_a_line_break(folder):
    path = folder.with_name("study\n\x1b[2J.dcm")
    path.write_bytes(b"no slice " * 40)
    return path


def zip_in_zip(folder):
    path, inner = folder.with_suffix(".zip"), folder.with_suffix(".inner.zip")
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("0.dcm", b"x")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(inner, "inner.zip")
    inner.unlink()
    return path


def links(folder):
    """A loop, a link to nowhere, and one to a device that never ends."""
    folder.mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "nowhere.dcm").symlink_to(folder / "absent")
    (folder / "endless.dcm").symlink_to("/dev/zero")
    return folder


def a_pipe(folder):
    folder.mkdir()
    os.mkfifo(folder / "0.dcm")
    return folder


def text_as_volume(folder):
    path = folder.with_suffix(".nrrd")
    path.write_text("NRRD0004\ntype: short\ndimension: 3\n")
    return path


def climbing_tar(folder):
    path, member = folder.with_suffix(".tgz"), tarfile.TarInfo("../../escaped.dcm")
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(member)
    return path


def link_in_a_tar(folder):
    path, member = folder.with_suffix(".tar"), tarfile.TarInfo("0.dcm")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(path, "w") as archive:
        archive.addfile(member)
    return path


def endless_name(folder):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a" * 260, b"x")
    return path


def huge_meta_image(folder):
    path = folder.with_suffix(".mha")
    sides = "DimSize = 20000 20000 20000\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    path.write_text(f"ObjectType = Image\nNDims = 3\nBinaryData = True\n{sides}")
    return path


def cut_and_compressed(folder):
    series(folder)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(path)
    (folder / "4.dcm").write_bytes((folder / "4.dcm").read_bytes()[:-3000])
    return folder


def progressive_jpeg(folder):
    series(folder)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xc2" + bytes(99)])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.55"
        dataset.save_as(path)
    return folder


def pet(folder):
    return series(folder, Modality="PT")


#: What is sent, and what must be said of it: the file and the reason.
CORPUS = {
    empty: "study: no axial CT slice",
    pdf: "letter.dcm: not a DICOM file",
    truncated: "4.dcm: the pixels cannot be decoded",
    wrong_vr: "the pixels cannot be decoded",
    flipped_bits: "the header ends before the pixels",
    ultrasound: "left out 10 x modality US",
    colour: "left out 10 x colour image",
    eight_bits: "left out 10 x 8-bit image",
    no_spacing: "no spacing between pixels or slices",
    all_in_one_place: "study: 1 slices; a study of the chest has 8 to 3000",
    endless: "study.nii: 3001 slices; a study of the chest has 8 to 3000",
    huge_grid: "study.nii: a grid of (20000, 20000, 20000) voxels",
    zip_bomb: "study.zip: member '0.dcm' unpacks to far more",
    deflated_bomb: "0.dcm: unpacks to far more than a slice",
    late_syntax_bomb: "0.dcm: unpacks to far more than a slice",
    picture_bomb: "a picture of 2000 x 2000 in a slice of 64 x 64",
    far_too_large: "3.dcm: 1024 MiB, far more than a slice",
    spacing_of_no_number: "no spacing between pixels or slices",
    hundreds: "study: 301 slices; a study of the chest has 8 to 300",
    lying_on_a_side: "the rows of its slices do not run from side to side",
    two_reconstructions: "10 slices lie at the height of another one",
    two_fields_of_view: "the distance between pixels differs, 0.7 to 0.9 mm",
    zip_that_climbs: "member '../../escaped.dcm' leads out of it",
    link_in_a_zip: "member '0.dcm' is a link",
    absurd_spacing: "mm: not the size of a chest; check the spacing",
    two_volumes: "study: 2 volume files, and no DICOM slice",
    many_frames: "12 frames); export the series as single-frame CT images",
    a_name_with_a_line_break: "study??[2J.dcm: not a DICOM file",
    zip_in_zip: "study.zip/inner.zip: an archive in a folder without DICOM slices",
    links: "study: no axial CT slice",
    a_pipe: "study: no axial CT slice",
    text_as_volume: "study.nrrd: no readable NRRD file",
    climbing_tar: "member '../../escaped.dcm' leads out of it",
    link_in_a_tar: "member '0.dcm' is a link",
    endless_name: "the name of a member is too long for this disk; shorten the names",
    huge_meta_image: "study.mha: a grid of (20000, 20000, 20000) voxels",
    cut_and_compressed: "4.dcm: the pixels cannot be decoded (the file ends before the pixels do)",
    progressive_jpeg: "is not supported; convert it, e.g. by dcmdjpeg (DCMTK) or gdcmconv --raw",
    pet: "PET series, no CT (left out 10 x modality PT)",
}
