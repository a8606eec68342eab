"""Stores images and reports under pseudonyms until they are no longer needed."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pe_unified.files import appearing, write_text


class Spool:
    """The folder of the service: received ``images``, ``chosen`` ones, ``reports``, and the secret
    of its pseudonyms.

    Args:
        folder: created if missing, closed to other users.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(PermissionError):  # a volume may belong to another user
            folder.chmod(0o700)
        self.folder = folder
        secret = folder / "secret"
        if not secret.exists():
            write_text(secret, secrets.token_hex(32))
            secret.chmod(0o600)
        self._secret = bytes.fromhex(secret.read_text("utf-8"))

    def key(self, study: str) -> str:
        """The pseudonym of a study UID: 16 hexadecimal digits."""
        return hashlib.blake2b(study.encode(), digest_size=8, key=self._secret).hexdigest()

    def images(self, key: str) -> Path:
        """The folder of a study's images, with a subfolder per series."""
        return self.folder / "images" / key

    def report(self, key: str) -> Path:
        """The folder of a study's report and of the objects to send."""
        return self.folder / "reports" / key

    def image(self, key: str, series: str, uid: str) -> Path:
        """Path of an image; its name is a digest, since a sender may write anything as UID."""
        return self.images(key) / _digest(series) / f"{_digest(uid)}.dcm"

    def keep(self, path: Path, content: bytes) -> None:
        """Write an image so that it survives a power cut."""
        with appearing(path) as partial, partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def chosen(self, key: str) -> Path:
        """The folder of the series of a study that are analysed."""
        return self.folder / "chosen" / key

    def choose(self, key: str, series: Iterable[str]) -> Path:
        """Fill :meth:`chosen` with links; :meth:`images` also keeps the other series, which may get
        more images."""
        folder, partial = self.chosen(key), shutil.ignore_patterns(".*")
        self.drop(folder)
        for name in map(_digest, series):
            own = self.images(key) / name
            shutil.copytree(own, folder / name, ignore=partial, copy_function=os.link)
        return folder

    def drop(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def free_gb(self) -> float:
        """Free space on the disk, GB."""
        return shutil.disk_usage(self.folder).free / 1e9


def _digest(uid: str) -> str:
    return hashlib.blake2b(uid.encode(errors="replace"), digest_size=16).hexdigest()
