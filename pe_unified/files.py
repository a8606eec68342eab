"""Files that appear whole or not at all, whenever the process is killed."""

import filecmp
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil


def write_text(path: Path, text: str) -> None:
    """As :func:`write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it; its folder is made.

    Raises:
        OSError: the place cannot be written to; what stood there stays, and nothing beside it.
    """
    with appearing(path) as partial:
        partial.write_bytes(content)


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Where to write a file, which takes its place when the block ends; its folder is made.

    After an error what stood there stays, and nothing beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield partial
        put_in_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_abandoned(folder: Path, ending: str) -> None:
    """Remove what runs that were killed left half-written of files with this ending."""
    for left in folder.glob(f".*{ending}.*.*.part"):
        if not psutil.pid_exists(int(left.name.split(".")[-3])):
            left.unlink(missing_ok=True)


def put_in_place(partial: Path, path: Path) -> None:
    """Give a written file its name. A file with the same bytes stays, its time included."""
    put_all_in_place({partial: path})


def put_all_in_place(names: Mapping[Path, Path]) -> None:
    """As :func:`put_in_place`, files that belong together: nothing slow between the renamings.

    Args:
        names: written file to its place.
    """
    same = {
        partial
        for partial, path in names.items()
        if path.is_file() and filecmp.cmp(partial, path, shallow=False)
    }
    for partial, path in names.items():
        if partial not in same:
            os.replace(partial, path)
    for partial in same:
        partial.unlink()
