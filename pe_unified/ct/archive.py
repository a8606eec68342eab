"""Unpacking what strangers packed: bounded in size, and never outside the target."""

import gzip
import os
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pe_unified.ct.errors import DataError, first_line

_BLOCK = 1 << 20
_SEND_AGAIN = "pack the study again as a plain zip"


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may unpack to.

    Attributes:
        files: number of members.
        total_bytes: of all members together.
        ratio: unpacked bytes per packed byte of the whole archive; CT packs to about half.
    """

    files: int = 20_000
    total_bytes: int = 8 << 30
    ratio: float = 200.0


def unpack_zip(path: Path, target: Path, limits: ArchiveLimits | None = None) -> None:
    """Unpack a zip into an empty folder.

    Sizes are counted while unpacking, not believed. Members keep their relative names.

    Raises:
        DataError: no zip, encrypted, damaged, beyond the limits, or with a member that is a link
            or whose name leads out of the folder.
    """
    limits = limits or ArchiveLimits()
    try:
        with zipfile.ZipFile(path) as archive:
            members = [item for item in archive.infolist() if not item.is_dir()]
            _refuse(path, members, limits)
            packed = max(1, path.stat().st_size)
            budget = min(limits.total_bytes, int(limits.ratio * packed))
            for member in members:
                budget -= _unpack_member(archive, member, target, budget, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        reason = f"the archive cannot be unpacked ({first_line(error)})"
        raise DataError(path, reason, _SEND_AGAIN) from error


def _refuse(path: Path, members: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    if not members:
        raise DataError(path, "an empty archive", _SEND_AGAIN)
    if len(members) > limits.files:
        reason = f"{len(members)} files, more than {limits.files}"
        raise DataError(path, reason, "pack one study by itself")
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        drive = ":" in (name.parts[0] if name.parts else "")
        if name.is_absolute() or drive or ".." in name.parts or "\0" in member.filename:
            raise DataError(path, f"member '{member.filename}' leads out of it", _SEND_AGAIN)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DataError(path, f"member '{member.filename}' is a link", _SEND_AGAIN)
        if member.flag_bits & 1:
            raise DataError(path, "the archive is encrypted", "unpack it first")


def _unpack_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, budget: int, path: Path
) -> int:
    """Bytes written."""
    place = target / PurePosixPath(member.filename.replace("\\", "/"))
    written = 0
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as packed, open(place, "xb") as out:
            while block := packed.read(_BLOCK):
                written += len(block)
                if written > budget:
                    reason = "unpacks to far more than it should (a zip bomb?)"
                    raise DataError(path, reason, "unpack it by hand and look inside")
                out.write(block)
    except OSError as error:
        cure = f"make room in {target.parent}, or set TMPDIR to a larger disk"
        reason = f"member '{member.filename}' cannot be unpacked ({os.strerror(error.errno or 0)})"
        raise DataError(path, reason, cure) from error
    return written


def unpack_gzip(path: Path, target: Path, limits: ArchiveLimits | None = None) -> None:
    """Unpack one gzipped file.

    Raises:
        DataError: no gzip, cut short, beyond the limits, or no room for it.
    """
    limits = limits or ArchiveLimits()
    budget = min(limits.total_bytes, int(limits.ratio * max(1, path.stat().st_size)))
    try:
        with gzip.open(path) as packed, open(target, "wb") as out:
            while block := packed.read(_BLOCK):
                budget -= len(block)
                if budget < 0:
                    reason = "unpacks to far more than it should"
                    raise DataError(path, reason, "unpack it by hand and look inside")
                out.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        reason = f"cannot be unpacked ({first_line(error)})"
        raise DataError(path, reason, "copy the file again from the source") from error
    except OSError as error:
        cure = f"make room in {target.parent}, or set TMPDIR to a larger disk"
        raise DataError(path, f"cannot be unpacked ({first_line(error)})", cure) from error
