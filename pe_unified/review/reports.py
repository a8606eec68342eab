"""The reports in a folder, of one study or of a batch, by the study names used in decisions."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pe_unified.errors import DataError
from pe_unified.paths import require_folder
from pe_unified.reports.file_names import REPORT

#: A report is in the folder itself, in a study's folder, or one level deeper if one place holds
#: several studies.
_PLACES = (REPORT, f"*/{REPORT}", f"*/*/{REPORT}")


@dataclass(frozen=True)
class StudyReport:
    """Location of a report, and what decisions on it must match.

    Attributes:
        study: StudyInstanceUID; without one, its folder relative to the reports.
        folder: of its files.
        model: SHA-256 of the checkpoint that made it.
        lesions: number of lesions, including candidates.
        shape: slices, rows and cols.
        sop_uids: by slice; None for a study that came as a volume file.
    """

    study: str
    folder: Path
    model: str
    lesions: int
    shape: tuple[int, int, int]
    sop_uids: tuple[str | None, ...]

    def read(self) -> dict[str, Any]:
        """The content of ``report.json``.

        Raises:
            DataError: it cannot be read.
        """
        return _read(self.folder / REPORT)


def find_reports(root: Path) -> tuple[dict[str, StudyReport], list[DataError]]:
    """All reports by study, in the order of their folders, and the errors of those left out:
    damaged reports, and second reports of the same study.

    Args:
        root: output folder of ``pe-unified infer`` or ``pe-unified batch``.

    Raises:
        DataError: no such folder.
    """
    require_folder(root, "name the folder that holds the reports")
    paths = sorted({path for place in _PLACES for path in root.glob(place)})
    found: dict[str, StudyReport] = {}
    faults: list[DataError] = []
    for path in paths:
        # Hidden folders hold reports that are being written; the old report is removed first.
        if path.parent != root and path.parent.name.startswith("."):
            continue
        try:
            known = path.stat()
            report = _described(path, root, known.st_mtime_ns, known.st_size)
            if report.study in found:
                reason = f"holds a report of the same study as '{found[report.study].folder}'"
                raise DataError(report.folder, reason, "keep one of them here")
        except FileNotFoundError:
            continue
        except DataError as fault:
            faults.append(fault)
            continue
        found[report.study] = report
    return found, faults


@contextmanager
def complete(path: Path) -> Iterator[None]:
    """Context for reading parts of a report; a missing part, as in reports of other versions,
    raises a clear error.

    Raises:
        DataError: names the report.
    """
    try:
        yield
    except (KeyError, TypeError) as error:
        reason = "the report lacks values that this version needs"
        raise DataError(path, reason, "analyse the study again", repr(error)) from error


@lru_cache(maxsize=4096)
def _described(path: Path, root: Path, time_ns: int, size: int) -> StudyReport:
    """Cached until the file changes."""
    report, folder = _read(path), path.parent
    own = root.resolve().name if folder == root else folder.relative_to(root).as_posix()
    with complete(path):
        given = report["input"]
        return StudyReport(
            study=given["study_uid"] or own,
            folder=folder,
            model=report["model"]["sha256"],
            lesions=len(report["lesions"]),
            shape=(given["slices"], given["rows"], given["cols"]),
            sop_uids=tuple(each["sop_uid"] for each in report["slices"]),
        )


def _read(path: Path) -> dict[str, Any]:
    cure = "analyse the study again"
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, "no readable report", cure, error) from error
    if not isinstance(report, Mapping) or report.get("schema") != "pe_unified.report":
        raise DataError(path, "no report of pe_unified", cure)
    return dict(report)
