"""Room for what must be unpacked, of which nothing stays, also where the process is killed."""

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

#: Begins the names of temporary folders; those that lost their process are removed.
PREFIX = "pe-study-"
_LOCK = ".lock"
#: A folder without an owner is left alone for so long: its owner may be about to lock it, seconds.
_YOUNG_S = 60.0


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder that is gone at the end.

    Those that killed processes of this user left, which may hold patients' images, are removed
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
    # The system lets go of the lock when the process ends, however it ends. It is held until all
    # is gone, so that nobody else tidies up at the same time.
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
