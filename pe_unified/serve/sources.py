"""Where the images of a report lie: guessed first, as comparing UIDs takes as long as opening."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pe_unified.errors import DataError
from pe_unified.reports.fingerprint import fingerprint
from pe_unified.review.reports import StudyReport
from pe_unified.review.sources import Source, candidates, find_source


class Sources:
    """The studies of some folders.

    Args:
        folders: each holds studies, or is one.
        key: the secret that reports were pseudonymised with; None without one.
    """

    def __init__(self, folders: Sequence[Path], key: str | None = None) -> None:
        self.folders, self.key = folders, key

    def find(self, found: StudyReport, report: Mapping[str, Any]) -> Iterator[Source]:
        """Where the study of a report may lie, the likeliest first; the last is compared with it.

        Raises:
            DataError: nowhere.
        """
        if not self.folders:
            reason = "no folder of studies is given"
            raise DataError(found.folder, reason, "serve with --studies DIR")
        paths = candidates(self.folders)
        given, settings = report["input"], report["settings"]
        uids = given["study_uid"], given["series_uid"]
        if not settings["pseudonymised"]:
            own = (found.folder.name, found.folder.parent.name)
            yield from (Source(path, *uids, None) for path in paths if path.name in own)
        if not settings["series_named"]:
            wanted = given.get("fingerprint")
            for path in paths:
                with suppress(OSError, DataError):
                    if wanted in (fingerprint(path), fingerprint(path, self.key or "")):
                        yield Source(path, None, None, None)
        yield find_source(found, paths, self.key)
