"""Detects whether the files of a study changed since its report was made."""

import hashlib
from contextlib import suppress
from pathlib import Path

from pe_unified.ct.detached import data_file_of
from pe_unified.ct.headers import list_files
from pe_unified.errors import DataError


def fingerprint(study: Path, key: str = "") -> str:
    """A hash that changes if a file of the study is added, removed, renamed or rewritten.

    Args:
        study: folder or file.
        key: a secret, so that nobody can guess file names by trying them.

    Returns:
        32 hexadecimal digits, from the names, sizes and times of the files.

    Raises:
        DataError: a folder cannot be listed.
    """
    digest = hashlib.blake2b(digest_size=16, key=key.encode()[:64])
    root, files = (study, list_files(study)) if study.is_dir() else (study.parent, _parts(study))
    for path in files:
        known = path.stat()
        name = "" if path == study else path.relative_to(root).as_posix()
        digest.update(f"{name}\0{known.st_size}\0{known.st_mtime_ns}\0".encode(errors="replace"))
    return digest.hexdigest()


def _parts(study: Path) -> list[Path]:
    """The file itself and, if it is only a header, its data file."""
    with suppress(DataError):  # analysing it gives the message
        return list(dict.fromkeys([study, data_file_of(study)]))
    return [study]
