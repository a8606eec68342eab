"""Matches files: studies with lines of the table, masks with studies."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pe_unified.converters.contract.splits import join
from pe_unified.converters.own.marks import BOXES, COCO, SLICES
from pe_unified.converters.own.table import StudyRow
from pe_unified.converters.own.tree import FoundMask, FoundStudy, Tree, bare_name
from pe_unified.converters.raw.identifiers import is_placeholder
from pe_unified.ct.headers import natural_key
from pe_unified.errors import DataError, listed, shown

_APART = "give each its own path, or its UID in the column study; unpack archives of several"


@dataclass(frozen=True)
class StudyPlace:
    """One study with all files and labels that belong to it; sent to the workers.

    Attributes:
        name: from the table, else its UID, else its file or folder.
        patient: its patient.
        names: by which it can be referred to, casefolded.
        found: its files.
        masks: files of masks.
        marks: files with boxes and labels of slices.
        problem: the reason why it cannot be converted, if known before it is opened.
    """

    name: str
    patient: str
    found: FoundStudy
    names: frozenset[str] = frozenset()
    series: str = ""
    masks: tuple[Path, ...] = ()
    marks: tuple[Path, ...] = ()
    placed: str = ""
    pe: int | None = None
    exam: Mapping[str, int] = field(default_factory=dict)
    problem: DataError | None = None


@dataclass
class Matched:
    """The studies of a folder, combined with its table.

    Attributes:
        problems: errors that do not concern single studies.
        notes: worth knowing.
        groups: patients of different names that are one by PatientID, with the group's name.
    """

    places: list[StudyPlace] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)


def match(tree: Tree, rows: Sequence[StudyRow] | None, raw: Path) -> Matched:
    """Match studies, lines of the table and masks.

    Args:
        tree: the content of ``raw``.
        rows: of the table; None without a table.
    """
    found = Matched()
    named = {path for row in rows or () for path in row.masks or ()}
    studies = [study for study in tree.studies if study.path not in named]
    keys = _Keys(studies, raw)
    if rows is None:
        rows = [StudyRow(0, keys.name(study)) for study in studies]
        found.places = [
            _place(row, study, keys, raw) for row, study in zip(rows, studies, strict=True)
        ]
    else:
        _match_rows(found, rows, studies, keys, raw)
    _refuse_copies(found)
    named |= {place.found.path for place in found.places}
    by_name = [number for number, row in enumerate(rows) if row.masks is None]
    _match_masks(found, by_name, [mask for mask in tree.masks if mask.path not in named], raw)
    _name_patients(found)
    found.problems += [str(error) for error in tree.broken]
    found.notes += [
        f"left out {count} DICOM files of modality {modality}"
        for modality, count in sorted(tree.others.items())
    ]
    return found


def _place(
    row: StudyRow, study: FoundStudy, keys: "_Keys", raw: Path, problem: DataError | None = None
) -> StudyPlace:
    marks: dict[Path, None] = {}
    for files, usual in ((row.boxes, (BOXES, COCO)), (row.slices, (SLICES,))):
        beside = (raw / name for name in usual)
        marks |= dict.fromkeys(
            [path for path in beside if path.is_file()] if files is None else files
        )
    missing = next((path for path in (*(row.masks or ()), *marks) if not path.is_file()), None)
    if missing is not None and problem is None:
        reason = f"study {row.study}: no such file, though line {row.line} of the table names it"
        problem = DataError(missing, reason, "correct the table, or put the file there")
    return StudyPlace(
        row.study,
        row.patient,
        study,
        frozenset((row.study.casefold(), *keys.of(study))),
        row.series,
        row.masks or (),
        tuple(marks),
        row.placed,
        row.pe,
        row.exam,
        problem,
    )


class _Keys:
    """Names that refer to a study: UID, PatientID, and the names of its folders and files.

    A name that two studies share refers to neither alone.
    """

    def __init__(self, studies: Sequence[FoundStudy], raw: Path):
        self._raw = raw
        owners: dict[str, set[int]] = defaultdict(set)
        for number, study in enumerate(studies):
            parts = study.path.relative_to(raw).parts
            for name in (study.uid, study.patient_id, *parts, *map(bare_name, parts)):
                owners[name.casefold()].add(number)
        owners.pop("", None)
        self._owners = {name: [studies[k] for k in sorted(own)] for name, own in owners.items()}

    def all_of(self, name: str) -> list[FoundStudy]:
        """The studies with this name, or with its bare form if fewer have that."""
        found = [self._owners.get(each.casefold(), []) for each in (name, bare_name(name))]
        return min(filter(None, found), key=len, default=[])

    def find(self, name: str) -> FoundStudy | None:
        found = self.all_of(name)
        return found[0] if len(found) == 1 else None

    def of(self, study: FoundStudy) -> list[str]:
        """All names that refer to this study only."""
        return [name for name, own in self._owners.items() if len(own) == 1 and own[0] is study]

    def name(self, study: FoundStudy) -> str:
        """The name of a study that no table names."""
        bare = bare_name(study.path.name)
        short = bare if self.find(bare) is study else study.path.relative_to(self._raw).as_posix()
        return study.uid or short


def _match_rows(
    found: Matched,
    rows: Sequence[StudyRow],
    studies: Sequence[FoundStudy],
    keys: _Keys,
    raw: Path,
) -> None:
    taken: dict[FoundStudy, StudyRow] = {}
    for row in rows:
        study = _study_of(row, studies, keys, raw)
        if isinstance(study, FoundStudy) and study in taken:
            other = taken[study]
            reason = f"study {row.study}: the same files as study {other.study}"
            study = DataError(study.path, reason, _APART)
        if isinstance(study, DataError):
            found.places.append(_place(row, FoundStudy(row.path or raw), keys, raw, study))
        else:
            taken[study] = row
            found.places.append(_place(row, study, keys, raw))
    left = [study.path for study in studies if study not in taken]
    if left:
        found.problems.append(
            f"{_named(left, raw)}: not in the table of studies and left out; add "
            f"{'a line for each' if len(left) > 1 else 'a line'}, or remove what should not count"
        )


def _refuse_copies(found: Matched) -> None:
    """A study of which there are two, as in a folder and in its zip, counts once."""
    first: dict[str, StudyPlace] = {}
    for number, place in enumerate(found.places):
        uid = place.found.uid
        if uid and first.setdefault(uid, place) is not place:
            reason = f"study {place.name}: the same study as {first[uid].found.path}"
            cure = "remove one of them; series of one study belong in one folder or archive"
            problem = place.problem or DataError(place.found.path, reason, cure)
            found.places[number] = replace(place, problem=problem)


def _study_of(
    row: StudyRow, studies: Sequence[FoundStudy], keys: _Keys, raw: Path
) -> FoundStudy | DataError:
    if row.path is None:
        named = keys.all_of(row.study)
        if len(named) == 1:
            return named[0]
        found = f"{len(named)} studies" if named else "no study"
        reason = f"'{row.study}' names {found} (UID, PatientID, folder or file)"
        cure = f"name its path in line {row.line} of the table"
        return DataError(row.study, reason, cure + _or_uid(named))
    if not row.path.exists():
        reason = f"study {row.study}: no such file or folder"
        return DataError(row.path, reason, f"correct the path in line {row.line} of the table")
    if row.path.is_file():
        beside = [study for study in studies if row.path in (study.path, *study.files)]
        return beside[0] if beside else FoundStudy(row.path)
    inside = [
        study
        for study in studies
        if any(path.is_relative_to(row.path) for path in study.files or (study.path,))
    ]
    named = [study for study in inside if row.study in (study.uid, study.patient_id)] or inside
    if len(named) == 1:
        return named[0]
    if not named and not row.path.resolve().is_relative_to(raw.resolve()):
        reason = f"study {row.study}: this folder lies outside {raw.name}"
        return DataError(row.path, reason, f"move or link it into {raw.name}")
    reason = f"study {row.study}: {len(named) or 'no'} studies lie in this folder"
    cure = f"name the folder or file of the study in line {row.line}"
    return DataError(row.path, reason, cure + _or_uid(named))


def _or_uid(studies: Sequence[FoundStudy]) -> str:
    names = listed([study.uid or study.path.name for study in studies])
    return f", or its StudyInstanceUID as study: {names}" if names else ""


def _match_masks(
    found: Matched, numbers: Sequence[int], masks: Sequence[FoundMask], raw: Path
) -> None:
    """Assign masks that no line of the table names to their studies."""
    places = [found.places[number] for number in numbers]
    usable = [place.found for place in places if place.problem is None]
    keys = _Keys([study for study in usable if study.path.is_relative_to(raw)], raw)
    of_study: dict[FoundStudy, list[Path]] = defaultdict(list)
    unclear = []
    for mask in masks:
        study = _owner(mask, usable, keys, raw)
        if study is None:
            unclear.append(mask.path)
        else:
            of_study[study].append(mask.path)
    for number, place in zip(numbers, places, strict=True):
        own = sorted(of_study.get(place.found, ()), key=natural_key)
        if len(own) > 1:
            reason = f"study {place.name}: several masks: {', '.join(path.name for path in own)}"
            cure = (
                "name the one that counts, or all, separated by |, in the column mask of the table"
            )
            problem = DataError(place.found.path, reason, cure)
            found.places[number] = replace(place, problem=place.problem or problem)
        elif own:
            found.places[number] = replace(place, masks=tuple(own))
    if unclear and len(places) < len(found.places):
        found.problems.append(
            f"{_named(unclear, raw)}: the table names no study for this mask; name it in the "
            "column mask, or remove it"
        )
    elif unclear:
        found.problems.append(
            f"{_named(unclear, raw)}: name and folder do not show to which study this mask "
            "belongs; name it in the column mask of the table, put it beside its study, or "
            "remove it"
        )


def _owner(
    mask: FoundMask, studies: Sequence[FoundStudy], keys: _Keys, raw: Path
) -> FoundStudy | None:
    """The study of a mask: by the UID in the file, by its name, by a folder that it shares with
    only one study, or by the names of its folders."""
    if mask.uid:
        same = [study for study in studies if study.uid == mask.uid]
        if len(same) == 1:
            return same[0]
    if (study := keys.find(mask.path.name)) is not None:
        return study
    for folder in mask.path.parents:
        inside = [study for study in studies if study.path.is_relative_to(folder)]
        if len(inside) == 1:
            return inside[0]
        if inside or folder == raw:
            break
    names = reversed(mask.path.relative_to(raw).parts[:-1])
    return next((study for name in names if (study := keys.find(name)) is not None), None)


def _name_patients(found: Matched) -> None:
    """Set the patient of each study: from the table, else its PatientID, else a new one."""
    alone = []
    by_identifier: dict[str, set[str]] = defaultdict(set)
    counts = Counter(place.found.patient_id for place in found.places)
    for number, place in enumerate(found.places):
        identifier = place.found.patient_id
        real = not is_placeholder(identifier, counts[identifier])
        patient = place.patient or (identifier if real else "")
        if not patient:
            alone.append(place.name)
            patient = place.name
        elif real:
            by_identifier[identifier].add(patient)
        found.places[number] = replace(place, patient=patient)
    for patients in by_identifier.values():
        if len(patients) > 1:
            join(found.groups, patients)
            found.problems.append(
                f"patients {', '.join(sorted(patients))} have one PatientID in their files and "
                "are kept in one split; give them one name in the column patient"
            )
    if alone:
        found.notes.append(
            f"{len(alone)} studies name no patient ({listed(alone)}); each counts as a separate "
            "patient: if a patient has several studies, name the patients in the table"
        )


def _named(paths: Iterable[Path], raw: Path) -> str:
    return listed(
        [shown(path.relative_to(raw) if path.is_relative_to(raw) else path) for path in paths]
    )
