"""Finds the images of a report, which holds neither images nor a path to them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pe_unified.ct.opening import open_study
from pe_unified.ct.patients import SeveralStudies
from pe_unified.ct.study import CTStudy
from pe_unified.errors import DataError
from pe_unified.reports.case_list import find_studies
from pe_unified.reports.fingerprint import fingerprint
from pe_unified.reports.report import pseudonym, series_name
from pe_unified.review.reports import StudyReport


@dataclass(frozen=True)
class Source:
    """Location of a study, and the series that a report describes.

    Attributes:
        path: for ``open_study``.
        study_uid, series: names for ``open_study``; None for a study that came as one volume file.
        renamed: gives the pseudonym of a UID or a PatientID; None if the report keeps them.
    """

    path: Path
    study_uid: str | None
    series: str | None
    renamed: Callable[[str], str] | None


@dataclass(frozen=True)
class _Renaming:
    """The pseudonyms of a key; can be pickled."""

    key: str

    def __call__(self, uid: str) -> str:
        return pseudonym(uid, self.key)


class Studies:
    """The files and folders among which the study of a report is searched.

    Args:
        folders: each is a study or holds studies.
        key: the secret with which reports were pseudonymised; None without one.

    Raises:
        DataError: one of them does not exist.
    """

    def __init__(self, folders: Sequence[Path], key: str | None = None) -> None:
        self.key = key
        self._fingerprints: dict[tuple[Path, str], str] = {}
        found: dict[Path, None] = {}
        for path in folders:
            if not path.exists():
                raise DataError(path, "no such file or folder", "check --studies")
            with suppress(DataError):
                found |= dict.fromkeys(find_studies(path))
            found[path] = None
        self.paths = list(found)

    @contextmanager
    def opened(self, report: StudyReport) -> Iterator[tuple[CTStudy, Source]]:
        """The study of a report: the one with its UIDs and slices.

        Tried first are those named like the report's folder, then those whose files are unchanged,
        then all. A volume file has no UIDs, so unchanged files are tried first; if there are none,
        a file of the same name and size is taken.

        Raises:
            DataError: none of them matches; says why a likely one does not.
        """
        with ExitStack() as stack:
            yield self._found(report, stack)

    def _found(self, report: StudyReport, stack: ExitStack) -> tuple[CTStudy, Source]:
        if not self.paths:
            raise DataError(report.folder, "no folder of studies is given", "add --studies DIR")
        content = report.read()
        renamed = None
        if content["settings"]["pseudonymised"]:
            if self.key is None:
                reason = "its report is pseudonymised, and the key is not given"
                cure = (
                    "set PE_UNIFIED_KEY to the key of that run; if none was set then, analyse the "
                    "study again with one"
                )
                raise DataError(report.folder, reason, cure)
            renamed = _Renaming(self.key)
        given = content["input"]
        own = {report.folder.name, report.folder.parent.name}
        named = [path for path in self.paths if path.name in own]
        wanted, key = given["fingerprint"], self.key or "" if renamed else ""
        same = (path for path in self.paths if self._fingerprint(path, key) == wanted)
        if given["study_uid"]:
            likely, others = chain(named, same), self.paths
        else:
            likely, others = chain(same, named), []
        why: dict[Path, DataError] = {}
        for path in likely:
            try:
                return _open_in(path, content, report, renamed, stack)
            except DataError as error:
                why[path] = error
        for path in others:
            with suppress(DataError):
                if path not in why:
                    return _open_in(path, content, report, renamed, stack)
        likeliest = next((str(error) for error in why.values()), "")
        reason = "no study in --studies has the slices that the report was made from"
        cure = "name their folder"
        if renamed:
            reason += ", under this PE_UNIFIED_KEY"
            cure = "check the key, and name their folder"
        raise DataError(report.folder, reason, cure, likeliest)

    def _fingerprint(self, path: Path, key: str) -> str:
        if (path, key) not in self._fingerprints:
            found = ""
            with suppress(OSError, DataError):
                found = fingerprint(path, key)
            self._fingerprints[path, key] = found
        return self._fingerprints[path, key]


def _open_in(
    path: Path,
    content: dict[str, Any],
    report: StudyReport,
    renamed: _Renaming | None,
    stack: ExitStack,
) -> tuple[CTStudy, Source]:
    """Open the study at one path, entered into ``stack``.

    Raises:
        DataError: it cannot be opened, or is not the study of the report.
    """
    # A pseudonym cannot be reversed, so all studies at this path are tried, each with the series
    # that is taken by default, then with the one of this pseudonym.
    wanted, name = content["input"], series_name(content)
    first = (None, None) if renamed else (wanted["study_uid"], name)
    attempts: list[tuple[str | None, str | None]] = [first]
    for study_uid, series in attempts:
        with ExitStack() as attempt:
            try:
                study = attempt.enter_context(open_study(path, series, study_uid=study_uid))
            except SeveralStudies as several:
                attempts += [(each, series) for each in several.names]
                continue
            if _is_of(study, wanted, report, renamed or str):
                stack.push(attempt.pop_all())
                return study, Source(path, study_uid, study.series or None, renamed)
            if renamed and name and series is None:
                uid, *acquisition = name.split("#")
                found = [each for each in study.series_uids if renamed(each) == uid]
                attempts += [(study_uid, "#".join([each, *acquisition])) for each in found]
    raise DataError(path, "its slices are not those of the report", "analyse the study again")


def _is_of(
    study: CTStudy, wanted: dict[str, Any], report: StudyReport, named: Callable[[str], str]
) -> bool:
    sop_uids = [named(uid) if uid else None for uid in study.sop_uids] or [None] * len(study)
    uid = named(study.study_uid) if study.study_uid else None
    same = (uid, study.shape) == (wanted["study_uid"], report.shape)
    return same and tuple(sop_uids) == report.sop_uids
