"""Sorts the slices of a folder by patient and study."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pe_unified.ct.headers import SliceHeader
from pe_unified.errors import DataError, one_line

#: Selects the study of the latest date.
NEWEST = "newest"
#: Number of studies described in an error; the rest is only counted.
_DESCRIBED = 6


@dataclass
class Study:
    """The slices of one study of one patient; names that no slice states are empty."""

    patient_id: str
    uid: str
    slices: list[SliceHeader] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Identifies the study within the folder. Contains the patient's ID."""
        return f"{self.patient_id}/{self.uid}"

    @property
    def when(self) -> str:
        """YYYYMMDDHHMMSS, or the known part of it, which sorts by time."""
        return max(map(_when, self.slices), default="")

    def fits(self, patient_id: str, uid: str) -> bool:
        """Whether names agree with those of the study; missing names agree with everything."""
        same_patient = "" in (patient_id, self.patient_id) or patient_id == self.patient_id
        return same_patient and ("" in (uid, self.uid) or uid == self.uid)

    def described(self) -> str:
        """Text for the user's terminal. Everything that identifies a patient is quoted, so that it
        can be left out (see :meth:`DataError.without_names`)."""
        day = self.when[:8]
        parts = [f"patient '{one_line(self.patient_id)}'"] if self.patient_id else []
        parts.append(f"study '{one_line(self.uid)}'" if self.uid else "a study without UID")
        parts += [f"of '{day[:4]}-{day[4:6]}-{day[6:]}'"] if day else []
        return " ".join([*parts, f"with {len(self.slices)} slices"])


class SeveralStudies(DataError):
    """The slices of a folder belong to several studies, and none was selected.

    Attributes:
        names: of the studies; each can be used for selection.
    """

    def __init__(self, where: str | os.PathLike, reason: str, cure: str, names: Sequence[str]):
        super().__init__(where, reason, cure)
        self.names = tuple(names)

    def at(self, where: str | os.PathLike) -> "SeveralStudies":
        return SeveralStudies(where, self._plain, self.cure, self.names)

    def __reduce__(self) -> tuple:
        return type(self), (self.where, self._plain, self.cure, self.names)


def studies_of(headers: Sequence[SliceHeader]) -> tuple[list[Study], list[SliceHeader]]:
    """The studies by patient and time, and the slices whose study cannot be determined.

    Slices that do not state their patient or study belong to those of their series, else to the
    only study there is.
    """
    stated: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    named = list(zip(headers, [header.patient_id for header in headers], _study_uids(headers)))
    for header, *own in named:
        for known, name in zip(stated[header.series_uid], own, strict=True):
            known.update({name} - {""})
    by_names: dict[tuple[str, ...], list[SliceHeader]] = defaultdict(list)
    for header, *own in named:
        names = zip(own, stated[header.series_uid], strict=True)
        by_names[tuple(n or (min(k) if len(k) == 1 else "") for n, k in names)].append(header)
    studies: list[Study] = []
    unclear: list[SliceHeader] = []
    for (patient_id, uid), slices in sorted(by_names.items(), key=lambda item: item[0].count("")):
        fitting = [study for study in studies if study.fits(patient_id, uid)]
        if len(fitting) > 1:
            unclear += slices
        elif fitting:
            study = fitting[0]
            study.patient_id, study.uid = study.patient_id or patient_id, study.uid or uid
            study.slices += slices
        else:
            studies.append(Study(patient_id, uid, slices))
    return sorted(studies, key=lambda study: (study.patient_id, study.when, study.uid)), unclear


def _study_uids(headers: Sequence[SliceHeader]) -> list[str]:
    """The study of each slice: the most frequent one in its series and patient."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for header in headers:
        if header.series_uid and header.study_uid:
            counts[header.series_uid, header.patient_id][header.study_uid] += 1
    most = {series: count.most_common(1)[0][0] for series, count in counts.items()}
    return [most.get((each.series_uid, each.patient_id), each.study_uid) for each in headers]


def choose_study(
    headers: Sequence[SliceHeader], where: str, wanted: str | None = None
) -> tuple[list[SliceHeader], list[str]]:
    """The slices of one study, in the order given, and notes on what was left out.

    Args:
        headers: of a folder.
        where: name of the folder in errors.
        wanted: UID of the study, or ID of its patient, or ``newest``.

    Raises:
        SeveralStudies: there are several, and ``wanted`` does not select one.
        DataError: there is no such study.
    """
    studies, unclear = studies_of(headers)
    if len(studies) < 2 and wanted in (None, NEWEST):
        return list(headers), []
    if wanted == NEWEST:
        chosen = _newest(studies)
    else:
        chosen = [s for s in studies if wanted in (None, s.name, s.uid, s.patient_id)]
    if not chosen:
        cure = f"the studies here are: {_described(studies)}"
        raise DataError(where, f"no study '{one_line(wanted or '')}'", cure)
    if len(chosen) > 1:
        raise _several(chosen, where, wanted)
    (study,) = chosen
    own = {header.path for header in study.slices}
    others = [other for other in studies if other is not study]
    notes = [
        f"left out {sum(len(other.slices) for other in of_kind)} slices of {what}"
        for what, of_kind in (
            ("other studies", [s for s in others if s.patient_id == study.patient_id]),
            ("other patients", [s for s in others if s.patient_id != study.patient_id]),
        )
        if of_kind
    ]
    if unclear:
        notes.append(f"left out {len(unclear)} slices that do not name their patient")
    return [header for header in headers if header.path in own], notes


def _newest(studies: Sequence[Study]) -> list[Study]:
    """The study of the latest date; all studies if there are several patients or missing dates."""
    patients = {study.patient_id for study in studies}
    if len(patients) > 1 or not all(study.when for study in studies):
        return list(studies)
    latest = max(study.when for study in studies)
    return [study for study in studies if study.when == latest]


def _several(studies: Sequence[Study], where: str, wanted: str | None) -> SeveralStudies:
    patients = {study.patient_id for study in studies}
    count = f"{len(studies)} studies"
    if len(patients) > 1:
        count += f" of {len(patients)} patients"
    reason = count
    if wanted == NEWEST:
        dates = "--study newest works only for studies of one patient"
        reason += f": {dates if len(patients) > 1 else 'their dates do not tell which is newest'}"
    cure = "choose one with --study UID"
    if wanted is None and len(patients) == 1:
        cure += " or --study newest"
    if len({study.uid for study in studies} - {""}) < len(studies):
        cure = "choose one with --study and the ID of the patient"
        if len(patients) < len(studies):
            cure = "put each study into a folder of its own"
    cure += f": {_described(studies)}"  # the length of a reason is limited
    return SeveralStudies(where, reason, cure, [study.name for study in studies])


def _described(studies: Sequence[Study]) -> str:
    told = [study.described() for study in studies[:_DESCRIBED]]
    return "; ".join(told + ([f"{len(studies) - len(told)} more"] if studies[_DESCRIBED:] else []))


def _when(header: SliceHeader) -> str:
    """Digits of the study's date and time; empty without a complete date."""
    date = re.sub(r"\D", "", header.study_date)
    return date + re.sub(r"\D.*", "", header.study_time)[:6] if len(date) == 8 else ""
