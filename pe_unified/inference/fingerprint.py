"""Whether the files of a study are still those that a report was made from."""

import hashlib
from pathlib import Path

from pe_unified.ct.headers import list_files


def fingerprint(study: Path, key: str = "") -> str:
    """Changes when a file of the study is added, removed, renamed or written again.

    Args:
        study: folder or file.
        key: a secret, without which nobody can find names by trying them.

    Returns:
        32 hexadecimal digits, of the names, sizes and times of the files.

    Raises:
        DataError: a folder that cannot be listed.
    """
    digest = hashlib.blake2b(digest_size=16, key=key.encode()[:64])
    for path in list_files(study) if study.is_dir() else [study]:
        known = path.stat()
        name = path.relative_to(study).as_posix() if study.is_dir() else ""
        digest.update(f"{name}\0{known.st_size}\0{known.st_mtime_ns}\0".encode(errors="replace"))
    return digest.hexdigest()
