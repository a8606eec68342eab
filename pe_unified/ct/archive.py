"""Unpacks untrusted archives: limited in size, and never outside the target folder."""

import errno
import gzip
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from pe_unified.errors import COPY_AGAIN, DataError

_BLOCK = 1 << 20
#: Maximum depth of nested folders.
_DEEPEST = 100
_SEND_AGAIN = "pack the study again as a plain zip"
#: A Windows drive; a colon elsewhere in a name is allowed.
_DRIVE = re.compile(r"[A-Za-z]:")
#: Types of tar members that hold the name or metadata of the next one; maximum length, bytes.
_LONG_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_LONGEST_HEADER = 1 << 16


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits for unpacking an archive.

    Attributes:
        files: number of members.
        total_bytes: of all members together.
        ratio: unpacked bytes per packed byte of the whole archive; CT packs to about half.
    """

    files: int = 20_000
    total_bytes: int = 8 << 30
    ratio: float = 200.0

    def budget(self, packed: int) -> int:
        """Maximum size to which an archive of ``packed`` bytes may unpack, bytes."""
        return min(self.total_bytes, int(self.ratio * max(1, packed)))


class Packed(Protocol):
    """An object that reads unpacked bytes."""

    def read(self, size: int, /) -> bytes: ...


def unpack_zip(path: Path, target: Path, limits: ArchiveLimits | None = None) -> None:
    """Unpack a zip into an empty folder.

    Sizes are counted while unpacking; stated sizes are not trusted. Members keep their relative
    names.

    Raises:
        DataError: not a zip, encrypted, damaged, beyond the limits, or with a member that is a
            link or whose name leads out of the folder.
    """
    limits = limits or ArchiveLimits()
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.infolist()
            members = [item for item in listed if not item.filename.endswith(("/", "\\"))]
            names = _Names(path, limits)
            for member in members:
                names.add(member.filename, plain=not stat.S_ISLNK(member.external_attr >> 16))
                if member.flag_bits & 1:
                    raise DataError(path, "the archive is encrypted", "unpack it first")
            names.require_any()
            budget = limits.budget(path.stat().st_size)
            for member in members:
                with archive.open(member) as packed:
                    budget -= _unpack_member(packed, member.filename, target, budget, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(path, "the archive cannot be unpacked", _SEND_AGAIN, error) from error
    except OSError as error:
        raise _damaged(path, "", error) from error


def unpack_tar(path: Path, target: Path, limits: ArchiveLimits | None = None) -> None:
    """Unpack a tar, gzipped or not, into an empty folder; see :func:`unpack_zip`.

    It is read once from start to end, so members before a refused one are already in ``target``.

    Raises:
        DataError: as :func:`unpack_zip`, and for devices and sparse files.
    """
    limits = limits or ArchiveLimits()
    budget = limits.budget(path.stat().st_size)
    names = _Names(path, limits)
    try:
        with ExitStack() as opened:
            file = opened.enter_context(_open_tar(path))
            archive = opened.enter_context(
                tarfile.open(fileobj=file, mode="r|", tarinfo=_Member, encoding="utf-8")
            )
            for member in archive:
                if member.isdir():
                    names.count()
                    continue
                names.add(member.name, plain=member.isreg() and not member.issparse())
                packed = archive.extractfile(member)
                assert packed is not None  # a plain file has content
                budget -= _unpack_member(packed, member.name, target, budget, path)
            names.require_any()
            while block := file.read(_BLOCK):  # the end of a gzip shows whether it is complete
                budget -= len(block)
                if budget < 0:
                    raise _bomb(path, "")
    except DataError:
        raise
    except (tarfile.TarError, zlib.error, EOFError, ValueError, RecursionError) as error:
        raise DataError(path, "the archive cannot be unpacked", _SEND_AGAIN, error) from error
    except OSError as error:
        raise _damaged(path, "", error) from error


def _open_tar(path: Path) -> BinaryIO:
    """The bytes of a tar, decompressed if gzipped."""
    return gzip.open(path) if is_gzipped(path) else open(path, "rb")  # type: ignore[return-value]


class _Member(tarfile.TarInfo):
    """Refuses a header with an overlong name before it is read into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        member = super().frombuf(buf, encoding, errors)
        if member.type in _LONG_HEADERS and member.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {member.size} bytes")
        return member


class _Names:
    """The names of an archive's files; refuses suspicious ones."""

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        self._path, self._limits, self._count = path, limits, 0
        self._files: set[PurePosixPath] = set()
        self._folders: set[PurePosixPath] = set()

    def count(self) -> None:
        """Count one more member, file or folder."""
        self._count += 1
        if self._count > self._limits.files:
            reason = f"more than {self._limits.files} files"
            raise DataError(self._path, reason, "pack one study by itself")

    def add(self, name: str, plain: bool) -> None:
        """Add a file; ``plain`` means neither a link nor a device."""
        self.count()
        place = _place(name)
        fault = ""
        if place.is_absolute() or _DRIVE.match(name) or ".." in place.parts or "\0" in name:
            fault = f"member '{name}' leads out of it"
        elif not plain:
            fault = f"member '{name}' is a link, or no plain file"
        elif len(place.parts) > _DEEPEST:
            fault = f"a member nested in {len(place.parts) - 1} folders"
        elif place in self._files:
            fault = f"member '{name}' is there twice"
        elif clash := {place} & self._folders or self._files.intersection(place.parents):
            fault = f"member '{clash.pop()}' is a file and a folder"
        if fault:
            raise DataError(self._path, fault, _SEND_AGAIN)
        self._files.add(place)
        self._folders.update(place.parents)

    def require_any(self) -> None:
        if not self._files:
            raise DataError(self._path, "an empty archive", _SEND_AGAIN)


def _place(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _unpack_member(packed: Packed, name: str, target: Path, budget: int, path: Path) -> int:
    """Unpack one member; returns the bytes written."""
    place = target / _place(name)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_room(path, error) from error
    return unpack_stream(packed, place, path, budget, what=f"member '{name}' ")


def is_gzipped(path: Path) -> bool:
    """Whether the content is gzip, whatever the name; False if it cannot be read."""
    with suppress(OSError), open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"
    return False


def unpack_gzip(path: Path, target: Path, limits: ArchiveLimits | None = None) -> None:
    """Unpack one gzipped file.

    Raises:
        DataError: not a gzip, truncated, beyond the limits, or no room for it.
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
    """Write the output of a decompressing reader into a new file, block by block.

    Args:
        packed: such as ``gzip.GzipFile`` or ``bz2.BZ2File``.
        target: file to create.
        path: file named in errors.
        budget: maximum number of bytes.
        enough: stop after this number of bytes.
        what: beginning of the errors' reasons.

    Returns:
        Bytes written.

    Raises:
        DataError: damaged or truncated, more than ``budget``, or no room for it.
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
                raise _bomb(path, what)
            try:
                out.write(block)
                out.flush()
            except OSError as error:
                raise _no_room(path, error) from error
    return written


def _damaged(path: Path, what: str, error: Exception) -> DataError:
    return DataError(path, f"{what}cannot be unpacked", COPY_AGAIN, error)


def _bomb(path: Path, what: str) -> DataError:
    reason = f"{what}unpacks to far more than it should (a bomb?)"
    return DataError(path, reason, "unpack it by hand and look inside")


def _no_room(path: Path, error: OSError) -> DataError:
    if error.errno == errno.ENAMETOOLONG:
        cure = "shorten the names of the files and folders in it, and pack it again"
        return DataError(path, "the name of a member is too long for this disk", cure)
    cure = f"make room in {tempfile.gettempdir()}, or set TMPDIR to a larger disk"
    return DataError(path, "cannot be unpacked", cure, error)
