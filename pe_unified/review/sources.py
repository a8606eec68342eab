"""The images that a report is of: a report holds none, and no path to them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from pe_unified.ct.opening import open_study
from pe_unified.ct.patients import SeveralStudies
from pe_unified.ct.study import CTStudy
from pe_unified.errors import DataError
from pe_unified.reports.case_list import find_studies
from pe_unified.reports.fingerprint import fingerprint
from pe_unified.reports.report import pseudonym
from pe_unified.review.reports import StudyReport


@dataclass(frozen=True)
class Source:
    """Where a study lies, and which series of it a report is of.

    Attributes:
        path: as ``open_study`` takes it.
        study_uid, series_uid: in the files; None for a study that came as one volume file.
        renamed: pseudonym for a UID or a PatientID; None where the report keeps them.
    """

    path: Path
    study_uid: str | None
    series_uid: str | None
    renamed: Callable[[str], str] | None


@dataclass(frozen=True)
class _Renaming:
    """The pseudonyms of a key; goes to other processes."""

    key: str

    def __call__(self, uid: str) -> str:
        return pseudonym(uid, self.key)


def candidates(studies: Sequence[Path]) -> list[Path]:
    """What may be a study: each of ``studies``, and what lies in those that are folders.

    Raises:
        DataError: one is not there.
    """
    found: dict[Path, None] = {}
    for path in studies:
        if not path.exists():
            raise DataError(path, "no such file or folder", "check --studies")
        with suppress(DataError):
            found |= dict.fromkeys(find_studies(path))
        found[path] = None
    return list(found)


def find_source(report: StudyReport, paths: Sequence[Path], key: str | None) -> Source:
    """The study that a report is of: the same UIDs; where it has none, the same name or files.

    Args:
        report: of which.
        paths: of :func:`candidates`; those named like the report's folder are tried first, then
            those whose files are as they were.
        key: of the pseudonyms.

    Raises:
        DataError: none of the paths holds it.
    """
    content = report.read()
    renamed = None
    if content["settings"]["pseudonymised"]:
        if key is None:
            reason = "its report is pseudonymised, and the key is not given"
            raise DataError(report.folder, reason, "export PE_UNIFIED_KEY as it was then")
        renamed = _Renaming(key)
    given = content["input"]
    own = {part.name for part in (report.folder, report.folder.parent)}
    named = [path for path in paths if path.name in own]
    same = _as_they_were(paths, given["fingerprint"], key if renamed else "")
    others = paths if given["study_uid"] else ()
    for path in chain(named, same, others):
        found = _source_in(path, given, report, renamed)
        if found is not None:
            return found
    raise DataError(report.folder, "no study in --studies has its slices", "name their folder")


def _as_they_were(paths: Sequence[Path], files: str, key: str | None) -> Iterator[Path]:
    """Those whose files have not changed since the report was made."""
    yield from (path for path in paths if _fingerprint(path, key or "") == files)


@lru_cache(maxsize=4096)
def _fingerprint(path: Path, key: str) -> str:
    with suppress(OSError, DataError):
        return fingerprint(path, key)
    return ""


def _source_in(
    path: Path, wanted: dict[str, Any], report: StudyReport, renamed: Callable[[str], str] | None
) -> Source | None:
    """The study as it lies in one place, if it is that of the report."""
    named = renamed or str
    # Nobody knows what a pseudonym stands for: what lies there is tried.
    first = (None, None) if renamed else (wanted["study_uid"], wanted["series_uid"])
    attempts = [first]
    for study_uid, series_uid in attempts:
        try:
            with open_study(path, series_uid, study_uid=study_uid) as study:
                if _is_of(study, wanted, report, named):
                    return Source(path, study_uid, study.series_uid or None, renamed)
        except SeveralStudies as several:
            attempts += [(name, None) for name in several.names]
        except DataError:
            continue
    return None


def _is_of(
    study: CTStudy, wanted: dict[str, Any], report: StudyReport, named: Callable[[str], str]
) -> bool:
    sop_uids = [named(uid) if uid else None for uid in study.sop_uids] or [None] * len(study)
    uid = named(study.study_uid) if study.study_uid else None
    same = (uid, study.shape) == (wanted["study_uid"], report.shape)
    return same and tuple(sop_uids) == report.sop_uids
