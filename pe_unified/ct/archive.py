"""Unpacking what strangers packed: bounded in size, and never outside the target."""

import gzip
import stat
import tempfile
import zipfile
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from pe_unified.ct.errors import DataError

_BLOCK = 1 << 20
#: No study is packed into more folders, one in the other.
_DEEPEST = 100
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

    def budget(self, packed: int) -> int:
        """Bytes that an archive of ``packed`` bytes may unpack to."""
        return min(self.total_bytes, int(self.ratio * max(1, packed)))


class Packed(Protocol):
    """Reads unpacked bytes from something packed."""

    def read(self, size: int, /) -> bytes: ...


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
            budget = limits.budget(path.stat().st_size)
            for member in members:
                budget -= _unpack_member(archive, member, target, budget, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(path, "the archive cannot be unpacked", _SEND_AGAIN, error) from error
    except OSError as error:
        raise _damaged(path, "", error) from error


def _refuse(path: Path, members: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    if not members:
        raise DataError(path, "an empty archive", _SEND_AGAIN)
    if len(members) > limits.files:
        reason = f"{len(members)} files, more than {limits.files}"
        raise DataError(path, reason, "pack one study by itself")
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        drive = ":" in (name.parts[0] if name.parts else "")
        if name.is_absolute() or drive or ".." in name.parts or "\0" in member.filename:
            raise DataError(path, f"member '{member.filename}' leads out of it", _SEND_AGAIN)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DataError(path, f"member '{member.filename}' is a link", _SEND_AGAIN)
        if member.flag_bits & 1:
            raise DataError(path, "the archive is encrypted", "unpack it first")
        if len(name.parts) > _DEEPEST:
            reason = f"a member in {len(name.parts) - 1} folders, one in the other"
            raise DataError(path, reason, _SEND_AGAIN)
        if name in files:
            raise DataError(path, f"member '{member.filename}' is there twice", _SEND_AGAIN)
        files.add(name)
        folders.update(name.parents)
    for name in files & folders:
        raise DataError(path, f"member '{name}' is a file and a folder", _SEND_AGAIN)


def _unpack_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, budget: int, path: Path
) -> int:
    """Bytes written."""
    place = target / PurePosixPath(member.filename.replace("\\", "/"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_room(path, error) from error
    with archive.open(member) as packed:
        return unpack_stream(packed, place, path, budget, what=f"member '{member.filename}' ")


def unpack_gzip(path: Path, target: Path, limits: ArchiveLimits | None = None) -> None:
    """Unpack one gzipped file.

    Raises:
        DataError: no gzip, cut short, beyond the limits, or no room for it.
    """
    budget = (limits or ArchiveLimits()).budget(path.stat().st_size)
    with ExitStack() as opened:
        try:
            packed = opened.enter_context(gzip.open(path))
        except OSError as error:
            raise _damaged(path, "", error) from error
        unpack_stream(packed, target, path, budget)


def unpack_stream(
    packed: Packed,
    target: Path,
    path: Path,
    budget: int,
    enough: int | None = None,
    what: str = "",
) -> int:
    """Write what a decompressing reader gives into a new file, a block at a time.

    Args:
        packed: such as ``gzip.GzipFile`` or ``bz2.BZ2File``.
        target: is created.
        path: what errors name.
        budget: more bytes are refused.
        enough: stop once there are so many.
        what: begins the errors' reasons.

    Returns:
        bytes written.

    Raises:
        DataError: damaged or cut short, more than ``budget``, or no room for it.
    """
    written = 0
    with ExitStack() as opened:
        try:
            out = opened.enter_context(open(target, "xb"))
        except OSError as error:
            raise _no_room(path, error) from error
        while enough is None or written < enough:
            try:
                block = packed.read(_BLOCK)
            except (OSError, EOFError, ValueError, zlib.error) as error:
                raise _damaged(path, what, error) from error
            if not block:
                break
            written += len(block)
            if written > budget:
                reason = f"{what}unpacks to far more than it should (a bomb?)"
                raise DataError(path, reason, "unpack it by hand and look inside")
            try:
                out.write(block)
                out.flush()
            except OSError as error:
                raise _no_room(path, error) from error
    return written


def _damaged(path: Path, what: str, error: Exception) -> DataError:
    cure = "copy the file again from the source"
    return DataError(path, f"{what}cannot be unpacked", cure, error)


def _no_room(path: Path, error: OSError) -> DataError:
    cure = f"make room in {tempfile.gettempdir()}, or set TMPDIR to a larger disk"
    return DataError(path, "cannot be unpacked", cure, error)
