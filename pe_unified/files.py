"""Files and folders that are written completely or not at all, even if the process is killed."""

import filecmp
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil


def write_text(path: Path, text: str) -> None:
    """As :func:`write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a temporary file beside ``path`` and rename it; its folder is created.

    Raises:
        OSError: ``path`` cannot be written; an existing file is kept, the temporary one removed.
    """
    with appearing(path) as partial:
        partial.write_bytes(content)


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to ``path`` at the end; its folder is created.

    After an error an existing file is kept and the temporary one is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield partial
        put_in_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def appearing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that is renamed to ``path`` at the end, and replaces what is there.

    After an error an existing folder is kept and the new one is removed; what a killed run left of
    it is removed by the next one.
    """
    partial = path.with_name(f".{path.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_abandoned(folder: Path, ending: str) -> None:
    """Remove partly written files with this ending that killed runs left behind."""
    for left in folder.glob(f".*{ending}.*.*.part"):
        if not psutil.pid_exists(int(left.name.split(".")[-3])):
            left.unlink(missing_ok=True)


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a written file to ``path``; a file with the same bytes is kept, with its time."""
    put_all_in_place({partial: path})


def put_all_in_place(names: Mapping[Path, Path]) -> None:
    """As :func:`put_in_place` for files that belong together; renames them without delay.

    Args:
        names: final path by written file.
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
