"""Where the images of a report lie: a report names no file, so they are looked for."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pe_unified.errors import DataError
from pe_unified.reports.case_list import find_studies
from pe_unified.reports.fingerprint import fingerprint
from pe_unified.serve.worklist import Entry


class Sources:
    """The studies of some folders.

    Args:
        folders: each holds studies, or is one.
        key: the secret that reports were pseudonymised with; None without one.
    """

    def __init__(self, folders: Sequence[Path], key: str | None = None) -> None:
        self.folders = [folder.resolve() for folder in folders]
        self._keys = ("",) if key is None else ("", key)
        self._known: dict[str, Path] = {}
        self._lock = threading.Lock()

    def find(self, entry: Entry, report: Mapping[str, Any]) -> Path:
        """Where the study of a report lies: under the name that its report's folder has, or
        wherever the files are that the report was made from.

        Raises:
            DataError: nowhere.
        """
        if not self.folders:
            raise DataError(entry.name, "no folder of studies is given", "serve with --studies DIR")
        wanted = report["input"].get("fingerprint", "")
        if wanted in self._known:
            return self._known[wanted]
        place = entry.name.partition("/")[0]
        for folder in self.folders:
            for path in (folder / place, *folder.glob(f"{_literal(place)}.*")):
                if path.exists() and path.resolve().is_relative_to(folder):
                    return path
        with self._lock:
            for path in self._candidates():
                with suppress(OSError, DataError):
                    for key in self._keys:
                        self._known[fingerprint(path, key)] = path
                if wanted in self._known:
                    return self._known[wanted]
        reason = "no study in the folders of --studies is the one that the report was made from"
        raise DataError(entry.name, reason, "name its folder with --studies")

    def _candidates(self) -> Iterator[Path]:
        for folder in self.folders:
            yield folder
            with suppress(DataError, OSError):
                yield from find_studies(folder)


def _literal(name: str) -> str:
    """A name in a pattern, where no letter means anything else."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in os.fspath(name))
