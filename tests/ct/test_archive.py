import gzip
import io
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from pe_unified.ct.archive import ArchiveLimits, unpack_gzip, unpack_tar, unpack_zip
from pe_unified.errors import DataError


def packed(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def unpacked(path, folder, **limits):
    folder.mkdir()
    (unpack_zip if path.suffix == ".zip" else unpack_tar)(path, folder, ArchiveLimits(**limits))
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_members_keep_names_and_content(tmp_path):
    members = {"a/1": b"one", "a/b/2.dcm": b"two" * 1000, "back\\slash": b"three"}
    folders = {"a/": b"", "back\\": b""}
    path = packed(tmp_path / "in.zip", folders | members)
    found = unpacked(path, tmp_path / "out")
    assert found == {name.replace("\\", "/"): content for name, content in members.items()}


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/etc/out.txt", "C:/out.txt"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    path = packed(tmp_path / "in.zip", {"ok": b"1", name: b"2"})
    with pytest.raises(DataError, match="leads out"):
        unpacked(path, tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"in.zip", "out"}
    assert not list((tmp_path / "out").iterdir())


def test_a_colon_within_a_name_leads_nowhere(tmp_path):
    members = {"CT 12:30/1.dcm": b"one", "12:30": b"two"}
    assert unpacked(packed(tmp_path / "in.zip", members), tmp_path / "out") == members


@pytest.mark.parametrize("name", ["a" * 260, "b" * 260 + "/1.dcm"])
def test_a_name_too_long_is_called_so(tmp_path, name):
    path = packed(tmp_path / "in.zip", {name: b"1"})
    with pytest.raises(DataError, match=r"in\.zip: .* too long for this disk; shorten the names"):
        unpacked(path, tmp_path / "out")


def test_links_are_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = packed(tmp_path / "in.zip", {info: b"/etc/passwd"})
    with pytest.raises(DataError, match="is a link"):
        unpacked(path, tmp_path / "out")


def test_bombs_are_stopped_early(tmp_path):
    path = packed(tmp_path / "in.zip", {"bomb": b"\0" * (64 << 20)})
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="bomb"):
        unpack_zip(path, tmp_path / "out", ArchiveLimits())
    assert (tmp_path / "out" / "bomb").stat().st_size < 16 << 20


def test_sizes_are_counted_not_believed(tmp_path):
    path = packed(tmp_path / "in.zip", {"a": b"x" * 5000, "b": b"y" * 5000}, zipfile.ZIP_STORED)
    with pytest.raises(DataError, match="unpacks to far more"):
        unpacked(path, tmp_path / "out", total_bytes=8000)
    with pytest.raises(DataError, match="more than 1 files"):
        unpacked(path, tmp_path / "again", files=1)


def gzipped(path, content):
    path.write_bytes(gzip.compress(content))
    return path


def test_one_gzipped_file_is_bounded_too(tmp_path):
    content = np.random.default_rng(0).bytes(5000)
    path = gzipped(tmp_path / "in.gz", content)
    unpack_gzip(path, tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == content
    with pytest.raises(DataError, match="unpacks to far more"):
        unpack_gzip(path, tmp_path / "small", ArchiveLimits(total_bytes=4999))
    bomb = gzipped(tmp_path / "bomb.gz", bytes(64 << 20))
    with pytest.raises(DataError, match=r"bomb\.gz: unpacks to far more"):
        unpack_gzip(bomb, tmp_path / "bomb")
    assert (tmp_path / "bomb").stat().st_size < 16 << 20
    for name, damaged in (("cut", gzip.compress(content)[:2000]), ("text", b"no gzip at all")):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(DataError, match=f"{name}: cannot be unpacked"):
            unpack_gzip(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize("damage", ["cut", "flip", "rubbish", "empty", "encrypted"])
def test_damaged_archives_are_named(tmp_path, damage):
    path = packed(tmp_path / "in.zip", {"a": bytes(range(256)) * 64})
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[60] ^= 0xFF
    elif damage == "rubbish":
        content = bytearray(b"rubbish" * 30)
    elif damage == "empty":
        content = bytearray(packed(tmp_path / "e.zip", {}).read_bytes())
    else:
        for signature in (b"PK\x01\x02", b"PK\x03\x04"):
            content[content.find(signature) + (8 if signature[2] == 1 else 6)] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"in\.zip"):
        unpacked(path, tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(DataError, match="'a' is there twice"):
        unpacked(tmp_path / "twice.zip", tmp_path / "out")
    path = packed(tmp_path / "in.zip", {"a": b"1", "a/b": b"2"})
    with pytest.raises(DataError, match="'a' is a file and a folder"):
        unpacked(path, tmp_path / "out2")
    path = packed(tmp_path / "deep.zip", {"a/" * 30_000 + "1.dcm": b"1"})
    with pytest.raises(DataError, match="in 30000 folders"):
        unpacked(path, tmp_path / "out3")


def tarred(path, members, **changes):
    """A tar of members, name to content; ``changes`` go into every member's header."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in changes.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["in.tar", "in.tar.gz", "in.tgz"])
def test_a_tar_keeps_names_and_content(tmp_path, name):
    members = {"a/1": b"one", "./a/b/2.dcm": b"two" * 1000, "CT 12:30": b"", "x" * 200: b"long"}
    found = unpacked(tarred(tmp_path / name, members), tmp_path / "out")
    assert found == {name.removeprefix("./"): content for name, content in members.items()}


def test_a_tar_is_gzipped_whatever_its_name_says(tmp_path):
    (tmp_path / "in.tar").write_bytes(tarred(tmp_path / "in.tgz", {"a": b"1"}).read_bytes())
    assert unpacked(tmp_path / "in.tar", tmp_path / "out") == {"a": b"1"}


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/etc/out.txt", "C:/out.txt"])
def test_names_in_a_tar_that_lead_out_are_refused(tmp_path, name):
    path = tarred(tmp_path / "in.tar", {name: b"2"})
    with pytest.raises(DataError, match="leads out"):
        unpacked(path, tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"in.tar", "out"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    path = tarred(tmp_path / "in.tar", {"a": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(DataError, match="'a' is a link, or no plain file"):
        unpacked(path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_tar_is_bounded_like_a_zip(tmp_path):
    bomb = tarred(tmp_path / "in.tgz", {"bomb": bytes(64 << 20)})
    with pytest.raises(DataError, match="member 'bomb' unpacks to far more"):
        unpacked(bomb, tmp_path / "out")
    assert (tmp_path / "out" / "bomb").stat().st_size < 16 << 20
    tail = tmp_path / "tail.tgz"
    tail.write_bytes(
        gzip.compress(tarred(tmp_path / "a.tar", {"a": b"1"}).read_bytes() + bytes(64 << 20))
    )
    with pytest.raises(DataError, match="unpacks to far more"):
        unpacked(tail, tmp_path / "out2")
    long = tarred(tmp_path / "long.tgz", {"a": b"1"}, pax_headers={"comment": "x" * (1 << 20)})
    with pytest.raises(DataError, match="a header of 10485"):
        unpacked(long, tmp_path / "out3")
    many = tarred(tmp_path / "many.tar", {str(k): b"" for k in range(4)})
    with pytest.raises(DataError, match="more than 3 files"):
        unpacked(many, tmp_path / "out4", files=3)
    for name, content in (("a", {}), ("b", {"a": b"1", "a/b": b"2"})):
        with pytest.raises(DataError, match=r"empty archive|is a file and a folder"):
            unpacked(tarred(tmp_path / f"{name}.tar", content), tmp_path / name)


def test_a_damaged_tar_is_named(tmp_path):
    content = np.random.default_rng(0).bytes(30_000)
    whole = tarred(tmp_path / "whole.tgz", {"a": content}).read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 0xFF  # its checksum
    for name, damaged in {
        "cut.tgz": whole[:15_000],
        "flip.tgz": flipped,
        "text.tar": b"no tar at all" * 90,
        "none.tar": b"",
    }.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(DataError, match=name):
            unpacked(tmp_path / name, tmp_path / name.partition(".")[0])
