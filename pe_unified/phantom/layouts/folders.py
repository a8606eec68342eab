"""Creates folders in one step, and removes what killed runs leave behind."""

import os
import shutil
from pathlib import Path


def fresh_folder(final: Path) -> Path:
    """An empty folder next to ``final``, to be filled and then moved into place."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.part")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    return partial


def move_into_place(partial: Path, final: Path) -> None:
    """Rename a filled folder to its final name; an existing folder is replaced."""
    if final.exists():
        shutil.rmtree(final)
    os.replace(partial, final)


def remove_unfinished(out: Path) -> None:
    """Remove what a killed run left half-written in ``out`` or one folder below it."""
    for partial in [*out.glob(".*.part"), *out.glob("*/.*.part")]:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink()
