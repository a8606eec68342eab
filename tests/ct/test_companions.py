"""What lies beside slices on a disc from a hospital, and what only looks like it."""

import gzip

import numpy as np
import pytest
from dicom_files import write_enhanced, write_hu, write_slice
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from pe_unified.ct.headers import scan_folder

EXECUTABLE = b"MZ\x90\0\x03\0\0\0" + bytes(200)


def write_directory(path):
    """A DICOM directory, as media hold it; its class stands in the file's meta elements only."""
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.FileSetID = "DISC"
    record = Dataset()
    record.DirectoryRecordType = "PATIENT"
    directory.DirectoryRecordSequence = [record]
    directory.save_as(path, enforce_file_format=True)


def test_a_directory_is_known_by_its_class(tmp_path):
    write_directory(tmp_path / "DIRFILE")
    write_directory(tmp_path / "index.dcm")
    scan = scan_folder(tmp_path)
    assert not scan.broken and not scan.headers
    assert [path.name for path, _ in scan.ignored] == ["DIRFILE", "index.dcm"]


@pytest.mark.parametrize(
    "name",
    [
        *("autorun.inf", "VIEWER.EXE", "lib.dll", "viewer.jar", "disc.ico", "Main.class"),
        *("View.app", "help.chm", "Thumbs.db", "README.txt", "ct.nii.gz", "ct.mha", "all.tar.gz"),
        *("labels.csv.gz", "image.zraw"),
    ],
)
def test_other_files_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"\1\2\3 anything")
    scan = scan_folder(tmp_path)
    assert len(scan.ignored) == 1 and not scan.broken


@pytest.mark.parametrize(
    "content",
    [
        b"Permission is hereby granted, free of charge, ...\n" * 50,
        "Straße und Größe\n".encode("latin-1") * 30,
        "[autorun]\r\nopen=viewer.exe\r\n".encode("utf-16"),
        EXECUTABLE,
        b"PK\x03\x04" + bytes(300),
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(300),
        b"%PDF-1.7\n" + bytes(300),
    ],
)
@pytest.mark.parametrize("name", ["LICENSE", "viewer.bin", "0001"])
def test_other_files_by_content(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    scan = scan_folder(tmp_path)
    assert len(scan.ignored) == 1 and not scan.broken


def whole(tmp_path):
    return write_hu(tmp_path / "whole", np.zeros((16, 16), np.int16)).read_bytes()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("I004", lambda content: content[:300]),
        ("I004", lambda content: b"MZ" + bytes(126) + content[128:300]),  # an odd preamble
        ("I004", lambda content: content[132:200]),  # without preamble
        ("I004", lambda content: b""),
        ("I004", lambda content: bytes(len(content))),
        ("I004", lambda content: content[:40]),
        ("I004.dcm", lambda content: b"<html>404 not found</html>"),
        ("I004.ima", lambda content: EXECUTABLE),
        ("I004.dcm.gz", lambda content: gzip.compress(b"<html>404 not found</html>")),
        ("I004.gz", lambda content: gzip.compress(content)[:100]),
    ],
)
def test_damaged_slices_stay_broken(tmp_path, name, damage):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(damage(whole(tmp_path)))
    scan = scan_folder(tmp_path / "in")
    assert [error.where for error in scan.broken] == [str(tmp_path / "in" / name)]
    assert not scan.ignored


def test_many_gzipped_frames_are_no_bomb(tmp_path, monkeypatch):
    frames = [{"ImagePositionPatient": [0, 0, 2.0 * k]} for k in range(9)]
    path = write_enhanced(tmp_path / "a", np.zeros((9, 64, 64), np.int16), frames)
    packed = tmp_path / "in" / "a.dcm.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(path.read_bytes()))
    monkeypatch.setattr("pe_unified.ct.dicom_file.LARGEST_SLICE", path.stat().st_size - 1000)
    (error,) = scan_folder(packed.parent, many_in_one=False).broken
    assert error.reason == "multi-frame image of 9 frames"


def test_gzipped_slices_are_slices(tmp_path):
    for k in range(3):
        path = write_slice(tmp_path / f"D{k}", np.zeros((16, 16), np.uint16), z=2.0 * k)
        packed = tmp_path / ("D0.gz" if k == 0 else f"D{k}.dcm.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    scan = scan_folder(tmp_path)
    assert [header.position[2] for header in scan.headers] == [0, 2, 4]
    assert not scan.broken and not scan.ignored
