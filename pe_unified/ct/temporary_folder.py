"""Temporary folders for unpacked files, which are removed even if the process is killed."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pe_unified.errors import DataError

#: Prefix of temporary folders; those whose process has ended are removed.
PREFIX = "pe-study-"
_LOCK = ".lock"
#: Unlocked folders younger than this are kept, since the owner may be about to lock them, seconds.
_YOUNG_S = 60.0


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder that is removed at the end.

    Folders that killed processes of this user left, which may hold patients' images, are removed
    first.

    Raises:
        DataError: there is no room for it.
    """
    parent = Path(tempfile.gettempdir())
    _sweep(parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        cure = "make room there, or set TMPDIR to another disk"
        raise DataError(parent, "cannot be written to", cure, error) from error
    # The system releases the lock whenever the process ends. It is held until everything is
    # removed, so that no other process cleans up at the same time.
    with FileLock(folder / _LOCK):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError, Timeout):
            found = folder.lstat()
            own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            if not own or time.time() - found.st_mtime < _YOUNG_S:
                continue
            with FileLock(folder / _LOCK, blocking=False):
                shutil.rmtree(folder, ignore_errors=True)
