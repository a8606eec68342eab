"""Folders that appear whole or not at all, and what killed runs leave."""

import os
import shutil
from pathlib import Path


def fresh_folder(final: Path) -> Path:
    """An empty folder beside ``final``, to be filled and then moved into place."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.part")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    return partial


def move_into_place(partial: Path, final: Path) -> None:
    """Give a filled folder its name; what stood there before goes."""
    if final.exists():
        shutil.rmtree(final)
    os.replace(partial, final)


def remove_unfinished(out: Path) -> None:
    """Remove what a killed run left half-written below ``out``, up to one folder down."""
    for partial in [*out.glob(".*.part"), *out.glob("*/.*.part")]:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink()
