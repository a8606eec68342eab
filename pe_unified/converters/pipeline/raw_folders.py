"""Lists the content of a download without hidden files, macOS copies and lost+found."""

import unicodedata
from pathlib import Path

from pe_unified.errors import DataError

#: Lists what ``pe-unified phantom`` painted; everything in its folder is synthetic.
MANIFEST = "phantom.json"


def is_hidden(path: Path) -> bool:
    """Whether a name does not belong to the set: ``.DS_Store``, ``._PAT001.mat``, ``__MACOSX``."""
    return path.name.startswith((".", "__MACOSX"))


def contents(folder: Path) -> list[Path]:
    """Sorted content of a folder, without hidden names; empty if it may not be listed."""
    try:
        return sorted(path for path in folder.iterdir() if not is_hidden(path))
    except OSError:
        return []


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, including links to folders, as :func:`contents` lists them."""
    return [path for path in contents(folder) if path.is_dir()]


def folders_below(raw: Path, levels: int = 2) -> list[Path]:
    """A folder and those below it, down to this level: archives often unpack into a subfolder."""
    found, level = [raw], [raw]
    for _ in range(levels):
        level = [inner for folder in level for inner in subfolders(folder)]
        found += level
    return found


def painted_folders(raw: Path) -> list[Path]:
    """Of a raw set and its subfolders, those that are synthetic: each has the manifest."""
    return [folder for folder in folders_below(raw, 1) if (folder / MANIFEST).is_file()]


def refuse_several(name: str, *found: list[Path]) -> DataError | None:
    """The error for a patient with several files of one kind, or None."""
    for paths in found:
        if len(paths) > 1:
            places = ", ".join(str(path) for path in paths)
            return DataError(name, f"found more than once: {places}", "keep one of them")
    return None


def case_name(name: str) -> str:
    """A name in one Unicode form: macOS writes an umlaut as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


def stem_before(path: Path, *suffixes: str) -> str | None:
    """The name before one of the suffixes, ignoring case; None if it has none of them."""
    for suffix in suffixes:
        if path.name.lower().endswith(suffix):
            return case_name(path.name[: -len(suffix)])
    return None
