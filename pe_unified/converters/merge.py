"""Merge converted sets into one: splits are kept, and slices are linked if possible, not copied.

A patient identifier that occurs in several sets gets the set's name as prefix. A study that occurs
in several sets is refused. So is a group of patients (one real anatomy on which several sets are
painted), or a DICOM PatientID of several sets of RSNA, own studies or corrections, that is in
different splits. Folds of the sets are dropped: --folds divides the patients of all. OUT must be
new or empty.

    pe-unified merge data/fumpe data/cadpe --out data/all
"""

import argparse
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pe_unified.converters.command_line import add_folds, command
from pe_unified.converters.contract.annotations import SplitFile, load_splits
from pe_unified.converters.contract.schema import CONVERTER_VERSION, info_entry, own_folder
from pe_unified.converters.contract.splits import SPLITS, assign_folds, check_division, fold_names
from pe_unified.converters.pipeline.assemble import totals_of, write_annotations
from pe_unified.converters.pipeline.run import REPORT
from pe_unified.errors import DataError
from pe_unified.files import appearing_folder
from pe_unified.json_files import write_json
from pe_unified.paths import require_apart
from pe_unified.progress import track

#: What to do about a study that is in two sets.
_REMOVE = (
    "remove it from one of them; where these are different scans with one file name, rename the "
    "files of one set and convert it again"
)
#: Converters whose patients are named by their DICOM PatientID: one person in all such sets.
_BY_PATIENT_ID = ("rsna", "folder", "review")


class _Set:
    """One converted set, completely loaded except for the pixels."""

    def __init__(self, root: Path, name: str):
        self.root, self.name = root, name
        self.split_of: dict[str, str] = {}
        self.group_of: dict[str, str] = {}
        self.records: dict[str, dict[str, Any]] = {}
        parts = list(load_splits(root))
        for part in parts:
            self._take(part)
        self.info = parts[0].info
        self.report = self._read_report()

    def _take(self, part: SplitFile) -> None:
        for patient in part.patients():
            if self.split_of.setdefault(patient, part.name) != part.name:
                reason = f"patient {patient} is in {self.split_of[patient]} and in {part.name}"
                raise DataError(self.root, reason, "convert the set again")
            self.records[patient] = {"images": [], "annotations": [], "exams": []}
        for image in part.images:
            record = self.records[image["patient_id"]]
            if image.get("group") is not None:
                self.group_of[image["patient_id"]] = image["group"]
            record["images"].append(image)
            record["annotations"].append(part.annotations.get(image["id"], []))
        for exam in part.exams:
            self.records[exam["patient_id"]]["exams"].append(exam)

    @cached_property
    def identifiers(self) -> dict[str, str]:
        """Patients that are named by their DICOM PatientID, here or in a set that was merged into
        this one, to that PatientID.

        Raises:
            DataError: the set was merged by a version that did not keep them.
        """
        if self.info.get("converter") in _BY_PATIENT_ID:
            return {patient: patient for patient in self.records}
        firsts = {patient: record["images"][0] for patient, record in self.records.items()}
        merged = self.info.get("sets") or {}
        for first in firsts.values():
            known = merged.get(first.get("set"), {}).get("converter") in _BY_PATIENT_ID
            if known and "person" not in first:
                raise DataError(self.root, "was merged by an older version", "merge its sets again")
        return {patient: first["person"] for patient, first in firsts.items() if "person" in first}

    def own_group(self, patient: str) -> dict[str, str]:
        """The field of an entry that names the patient's group, if there is one."""
        return {"group": self.group_of[patient]} if patient in self.group_of else {}

    def all_patients(self) -> list[str]:
        """All patients, converted and skipped."""
        reported = {entry["patient_id"] for entry in self.report["patients"]}
        return sorted(reported | self.records.keys())

    def _read_report(self) -> dict[str, Any]:
        try:
            return json.loads((self.root / REPORT).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                self.root / REPORT, f"cannot be read ({error})", "convert again"
            ) from error


def merge(
    roots: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    names: Sequence[str] | None = None,
    folds: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Merge converted sets.

    Args:
        roots: dataset folders.
        out: folder of the merged set; must not exist, or be empty.
        names: of the sets, for prefixes; by default their folder names.
        folds: also divide the patients outside the test split for cross-validation; 0: do not.
        seed: of the folds.

    Returns:
        The merged report.

    Raises:
        DataError: a patient, a group or a study is in two splits, a set cannot be read, ``out``
            is not empty, or two sets have the same name.
        ValueError: more folds than patients or groups.
    """
    check_division((1, 0, 0), folds)
    out = Path(out).resolve()
    require_apart(out, *map(Path, roots))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(out, "is not an empty folder", "choose another one")
    names = list(names) if names else [Path(root).resolve().name for root in roots]
    if len(names) != len(roots) or len(set(names)) != len(names):
        raise DataError(out, f"sets named {', '.join(names)}", "give each set its own --names")
    named = list(zip(roots, names, strict=True))
    sets = [_Set(Path(root).resolve(), name) for root, name in track(named, "reading sets")]
    _refuse_shared_studies(sets)
    _refuse_divided_groups(sets)
    _refuse_divided_identifiers(sets)
    _keep_identifiers(sets)
    new_ids = _new_ids(sets)
    by_name = {one.name: one for one in sets}
    converted = [key for key in new_ids if key[1] in by_name[key[0]].records]
    order = sorted(converted, key=lambda key: new_ids[key])
    parts_of = {new_ids[key]: [by_name[key[0]].split_of[key[1]]] for key in order}
    in_folds = _add_folds(parts_of, sets, new_ids, folds, seed)
    taken: set[str] = set()
    info = info_entry(
        description="merged from " + ", ".join(names),
        source="; ".join(str(one.info.get("source")) for one in sets),
        licence="; ".join(f"{one.name}: {one.info.get('licence')}" for one in sets),
        options={
            "converter": "merge",
            "sets": {one.name: one.info for one in sets},
            "split_seed": [one.info.get("split_seed") for one in sets],
            "synthetic": _synthetic(sets),
            "hu_check": all(one.info.get("hu_check", True) for one in sets),
        },
    )
    report = _merged_report(sets, new_ids)
    with appearing_folder(out) as partial:
        records = (
            _moved(by_name[name], patient, new_ids[name, patient], partial, taken)
            for name, patient in track(order, "linking patients")
        )
        (partial / "images").mkdir()
        write_annotations(partial, records, parts_of, [*SPLITS, *in_folds], info)
        write_json(partial / REPORT, report)
    return report


def _add_folds(
    parts_of: Mapping[str, list[str]],
    sets: Sequence[_Set],
    new_ids: Mapping[tuple[str, str], str],
    folds: int,
    seed: int,
) -> list[str]:
    """Add the folds of each patient outside the test split; returns the names of all folds."""
    if not folds:
        return []
    has_pe: dict[str, bool | None] = {}
    groups: dict[str, str] = {}
    for one in sets:
        for patient, record in one.records.items():
            new_id = new_ids[one.name, patient]
            if one.split_of[patient] == "test":
                continue
            has_pe[new_id] = any(image["pe_present"] for image in record["images"])
            if patient in one.group_of:
                groups[new_id] = one.group_of[patient]
    for patient, own in assign_folds(has_pe, folds, seed, groups).items():
        parts_of[patient] += fold_names(folds, own)
    return fold_names(folds)


def _synthetic(sets: Sequence[_Set]) -> bool | str | None:
    """Whether all slices are synthetic, or ``"in part"``; None if a set does not say. For a set
    that is so in part, readers check each slice (``sources`` of a data set)."""
    kinds = {one.info.get("synthetic") for one in sets}
    if len(kinds) == 1:
        return kinds.pop()
    return None if None in kinds and not kinds & {True, "in part"} else "in part"


def _refuse_shared_studies(sets: Sequence[_Set]) -> None:
    """A study that is in two sets is the same patient, whatever the identifiers are."""
    places: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for one in sets:
        for patient, record in one.records.items():
            for exam in record["exams"]:
                places[exam["study_uid"]].append((one.name, one.split_of[patient]))
    shared = {study: found for study, found in places.items() if len(found) > 1}
    for study, ((name, split), (other, other_split), *_) in shared.items():
        if split != other_split:
            reason = f"study {study} is in {split} of {name} and in {other_split} of {other}"
            raise DataError(other, reason, _REMOVE)
    for study, ((name, _), (other, _), *_) in shared.items():
        reason = f"study {study} is in {name} and in {other}"
        raise DataError(other, reason, _REMOVE)


def _refuse_divided_groups(sets: Sequence[_Set]) -> None:
    """Patients of one group share a body: none may be tested on a body used for training."""
    places: dict[str, tuple[_Set, str]] = {}
    for other in sets:
        for patient, group in sorted(other.group_of.items()):
            one, split = places.setdefault(group, (other, other.split_of[patient]))
            if split == other.split_of[patient]:
                continue
            reason = f"group {group} is in {split} of {one.name} and in {other.split_of[patient]}"
            if one is other:
                raise DataError(other.name, reason, "convert the set again")
            cure = (
                f"convert {other.name} again with --splits-of {one.root}, or paint the sets on "
                "disjoint --anatomies; where the groups are different people, give them different "
                "names by --groups"
            )
            raise DataError(other.name, f"{reason} of {other.name}", cure)


def _refuse_divided_identifiers(sets: Sequence[_Set]) -> None:
    """A DICOM PatientID is one person in all sets that name patients by it."""
    places: dict[str, tuple[_Set, str]] = {}
    for other in sets:
        for patient, identifier in sorted(other.identifiers.items()):
            split = other.split_of[patient]
            one, before = places.setdefault(identifier, (other, split))
            if before != split:
                reason = f"patient {identifier} is in {before} of {one.name} and in {split}"
                cure = (
                    f"convert it again with --splits-of {one.root}; where these are different "
                    "people, give them different names by a column patient in studies.csv"
                )
                raise DataError(other.name, f"{reason} of {other.name}", cure)


def _keep_identifiers(sets: Sequence[_Set]) -> None:
    """A person in several such sets gets a name per set; a group keeps these together."""
    owners: dict[str, list[tuple[_Set, str]]] = defaultdict(list)
    for one in sets:
        for patient, identifier in one.identifiers.items():
            owners[identifier].append((one, patient))
    for identifier, found in owners.items():
        groups = [one.group_of[patient] for one, patient in found if patient in one.group_of]
        for one, patient in found if len(found) > 1 else ():
            one.group_of.setdefault(patient, groups[0] if groups else identifier)


def _new_ids(sets: Sequence[_Set]) -> dict[tuple[str, str], str]:
    """(set, patient) to the identifier in the merged set, including skipped patients."""
    members = {one.name: one.all_patients() for one in sets}
    times = Counter(patient for patients in members.values() for patient in patients)
    new_ids = {
        (name, patient): f"{name}-{patient}" if times[patient] > 1 else patient
        for name, patients in members.items()
        for patient in patients
    }
    twice = [name for name, count in Counter(new_ids.values()).items() if count > 1]
    if twice:
        raise DataError(twice[0], "the prefixed name is another patient's", "choose other --names")
    return new_ids


def _moved(one: _Set, patient: str, new_id: str, root: Path, taken: set[str]) -> dict[str, Any]:
    """A patient's record under its new identifier, with the slices linked into place.

    ``taken``: folders of the previous patients; this one's is added.
    """
    record = one.records[patient]
    folder = own_folder(new_id, taken)
    (root / "images" / folder).mkdir()
    # Kept apart from the name, which may get a prefix, so that a further merge knows it.
    person = {"person": one.identifiers[patient]} if patient in one.identifiers else {}
    images = []
    for image in record["images"]:
        name = f"images/{folder}/{image['file_name'].rsplit('/', 1)[1]}"
        _link(one.root / image["file_name"], root / name)
        fields = {key: value for key, value in image.items() if key not in ("id", "file_name")}
        images.append(
            {
                "file_name": name,
                **fields,
                **one.own_group(patient),
                **person,
                "patient_id": new_id,
                "set": one.name,
            }
        )
    annotations = [
        [{k: v for k, v in item.items() if k not in ("id", "image_id")} for item in items]
        for items in record["annotations"]
    ]
    exams = [{**exam, "patient_id": new_id} for exam in record["exams"]]
    return {
        "patient": {"patient_id": new_id},
        "images": images,
        "annotations": annotations,
        "exams": exams,
    }


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError as error:
        raise DataError(
            source, "listed, but no such file", "run pe-unified verify on the set"
        ) from error
    except OSError:
        shutil.copyfile(source, target)


def _merged_report(sets: Sequence[_Set], new_ids: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    entries, painted = [], set()
    for one in sets:
        for entry in one.report["patients"]:
            patient = entry["patient_id"]
            new_id = new_ids[one.name, patient]
            group = one.own_group(patient)
            entries.append({**entry, **group, "patient_id": new_id, "set": one.name})
            if patient in one.records and one.records[patient]["images"][0].get("synthetic"):
                painted.add(new_id)
    return {
        "converter": "merge",
        "converter_version": CONVERTER_VERSION,
        "options": {"sets": [one.name for one in sets]},
        "totals": totals_of(entries, painted),
        "problems": [
            f"{one.name}: {text}" for one in sets for text in one.report.get("problems", ())
        ],
        "patients": sorted(entries, key=lambda entry: (entry["patient_id"], entry["set"])),
    }


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", metavar="DATA", nargs="+", type=Path, help="converted folders")
    parser.add_argument("--out", required=True, type=Path, help="the merged data set's folder")
    parser.add_argument(
        "--names", nargs="+", help="of the sets, for prefixes (default: the folders' names)"
    )
    add_folds(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the folds (default: %(default)s)")
    return parser


@command
def main() -> int:
    args = make_parser().parse_args()
    report = merge(args.roots, args.out, args.names, args.folds, args.seed)
    totals = report["totals"]
    painted = totals["synthetic_slices"] / max(1, totals["slices"])
    print(
        f"{args.out}: {totals['converted']} patients of {len(args.roots)} sets, "
        f"{totals['slices']} slices, {totals['annotations']} annotations"
        + (f"; {painted:.0%} of the slices are synthetic" if painted else "")
    )
    return 0
