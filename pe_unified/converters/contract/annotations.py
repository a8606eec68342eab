"""Checks a converted folder against its format, as far as the JSON files alone allow.

``annotations.schema.json`` describes every field of a file of annotations.
"""

import json
import reprlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastjsonschema
from fastjsonschema import JsonSchemaValueException, JsonSchemaValuesException

from pe_unified.converters.contract.schema import ALL_LABELS
from pe_unified.converters.contract.splits import SPLITS
from pe_unified.ct.exam_labels import exam_doubts
from pe_unified.errors import DataError

_FILE = json.loads(files(__package__).joinpath("annotations.schema.json").read_text("utf-8"))
#: Entries have their own schemas: all faults of a whole file at once could fill the memory.
_SCHEMAS = {
    "file": _FILE | {"definitions": {kind: {} for kind in _FILE["definitions"]}},
    **_FILE["definitions"],
}
_CHECKS = {
    name: fastjsonschema.compile(schema, use_default=False, fast_fail=False)
    for name, schema in _SCHEMAS.items()
}


@dataclass
class SplitFile:
    """One file of annotations."""

    name: str
    info: dict[str, Any]
    images: list[dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]
    exams: list[dict[str, Any]]
    faults: list[str] = field(default_factory=list)

    def patients(self) -> set[str]:
        return {image["patient_id"] for image in self.images}


def load_split_file(path: Path) -> SplitFile | str:
    """Load a file of annotations; returns the fault if it cannot be read.

    Entries that ``annotations.schema.json`` does not allow are left out and listed in ``faults``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError) as error:
        return f"{path.name}: cannot be read ({error}); convert again"
    unusable = _faults("file", content)
    if unusable:
        return f"{path.name}: {'; '.join(unusable)}; convert again"
    part = SplitFile(path.stem, content["info"], [], defaultdict(list), [])
    part.faults += [f"{path.name}: info {fault}" for fault in _faults("info", part.info)]
    part.images = _allowed(part, "image", content["images"])
    part.exams = _allowed(part, "exam", content["exams"])
    known = {image["id"] for image in part.images}
    for annotation in _allowed(part, "annotation", content["annotations"]):
        if annotation["image_id"] in known:
            part.annotations[annotation["image_id"]].append(annotation)
        else:
            where = f"{path.name}, annotation {annotation['id']}"
            part.faults.append(f"{where}: no such image {annotation['image_id']}")
    return part


def load_splits(root: Path) -> Iterator[SplitFile]:
    """The files of train, val and test of a set, one after the other.

    Raises:
        DataError: one cannot be read, or has an entry that the schema does not allow.
    """
    for split in SPLITS:
        part = load_split_file(root / "annotations" / f"{split}.json")
        if isinstance(part, str) or part.faults:
            reason = part if isinstance(part, str) else part.faults[0]
            raise DataError(root, reason, "run pe-unified verify on it")
        yield part


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def _allowed(part: SplitFile, kind: str, entries: list[Any]) -> list[dict[str, Any]]:
    """The entries of a list that the schema allows; the faults of the others are recorded."""
    allowed = []
    for index, entry in enumerate(entries):
        faults = _faults(kind, entry)
        if not faults:
            allowed.append(entry)
            continue
        known = entry.get("id", entry.get("study_uid")) if isinstance(entry, dict) else None
        name = f"{kind}s[{index}]" if known is None else f"{kind} {known}"
        part.faults += [f"{part.name}.json, {name}: {fault}" for fault in faults]
    return allowed


def _faults(kind: str, value: Any) -> list[str]:
    """Faults of a part of a file, in the words of the schema's descriptions."""
    try:
        _CHECKS[kind](value)
    except JsonSchemaValuesException as found:
        return list(dict.fromkeys(_in_words(each, value, kind) for each in found.errors))
    return []


def _in_words(error: JsonSchemaValueException, value: Any, kind: str) -> str:
    if error.rule == "required":
        return f"lacks {', '.join(key for key in error.rule_definition if key not in error.value)}"
    if len(error.path) == 1:
        return f"is {reprlib.repr(value)}, not {_SCHEMAS[kind]['description']}"
    name = error.path[1]
    description = _SCHEMAS[kind]["properties"][name]["description"]
    return f"{name} is {reprlib.repr(value[name])}, not {description}"


def is_report_entry(entry: Any) -> bool:
    """Whether a patient's entry of ``conversion_report.json`` has all fields that are checked."""
    counts = ("slices", "positive_slices", "annotations")
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("patient_id"), str)
        and isinstance(entry.get("status"), str)
        and all(isinstance(entry.get(name), int) for name in counts)
    )


def part_faults(part: SplitFile) -> Iterator[str]:
    """Faults within one file."""
    yield from part.faults
    yield from _unique(part.name, "image id", (image["id"] for image in part.images))
    yield from _unique(part.name, "file", (image["file_name"] for image in part.images))
    yield from _unique(
        part.name,
        "series and SOP UID",
        (f"{i['series_uid']} {i['sop_uid']}" for i in part.images if i["sop_uid"] is not None),
    )
    every = (item["id"] for items in part.annotations.values() for item in items)
    yield from _unique(part.name, "annotation id", every)
    for image in part.images:
        where = f"{part.name}.json, {image['file_name']}"
        for fault in slice_faults(image, part.annotations.get(image["id"], [])):
            yield f"{where}: {fault}"
    yield from _exam_faults(part)
    yield from _study_faults(part)
    for patient, groups in sorted(_groups_of(part.images).items()):
        if len(groups) > 1:
            yield f"{part.name}.json, patient {patient}: slices differ in group"


def slice_faults(image: Mapping[str, Any], annotations: list[dict[str, Any]]) -> Iterator[str]:
    """Contradictions between the labels of a slice, and boxes outside the slice."""
    known, present = set(image["labels_known"]), image["pe_present"]
    if ("slice" in known) != (present is not None):
        yield f"pe_present is {present}, yet labels_known is {sorted(known)}"
    if present == 0 and annotations:
        yield f"pe_present is 0, yet there are {len(annotations)} annotations"
    if present == 0 and known != set(ALL_LABELS):
        yield "labels_known of a negative slice must list slice, boxes and masks"
    if present == 1 and known & {"boxes", "masks"} and not annotations:
        yield "pe_present is 1 and boxes are known, yet there is no annotation"
    for annotation in annotations:
        kind = "masks" if annotation["segmentation"] else "boxes"
        if kind not in known:
            yield f"annotation {annotation['id']} although {kind} are not in labels_known"
        yield from _box_faults(annotation, image["width"], image["height"])
    if image["lung_box"] is not None:
        x, y, w, h = image["lung_box"]
        if min(x, y) < 0 or min(w, h) < 1 or x + w > image["width"] or y + h > image["height"]:
            yield f"lung_box {image['lung_box']} leaves the slice"


def _box_faults(annotation: Mapping[str, Any], width: int, height: int) -> Iterator[str]:
    name = f"annotation {annotation['id']}"
    x, y, w, h = annotation["bbox"]
    if min(w, h) <= 0 or x < 0 or y < 0 or x + w > width or y + h > height:
        yield f"{name}: box {annotation['bbox']} leaves the slice of {width} x {height}"
    if not annotation["segmentation"] and abs(annotation["area"] - w * h) > 1e-6 * w * h:
        yield f"{name}: area {annotation['area']} of the box {annotation['bbox']}"


def _exam_faults(part: SplitFile) -> Iterator[str]:
    where = f"{part.name}.json, exams"
    yield from _unique(part.name, "exam", (exam["study_uid"] for exam in part.exams))
    exams = {exam["study_uid"]: exam for exam in part.exams}
    with_slices = {image["study_uid"] for image in part.images}
    owners = {(image["study_uid"], image["patient_id"]) for image in part.images}
    for study, patient in sorted(owners):
        named = exams[study]["patient_id"] if study in exams else patient
        if named != patient:
            yield f"{where}, {study}: of patient {named}, its slices are {patient}'s"
    positive = {image["study_uid"] for image in part.images if image["pe_present"]}
    for study in sorted(with_slices):
        if study not in exams:
            yield f"{where}: none for study {study}"
        elif study in positive and exams[study]["negative_exam_for_pe"] == 1:
            yield f"{where}, {study}: negative, yet slices have an embolus"
    for study in sorted(exams.keys() - with_slices):
        yield f"{where}: study {study} has no slice"


def exam_warnings(part: SplitFile) -> Iterator[str]:
    """Exams with contradictory labels; subsets are skipped, since most slices are unknown."""
    if _holds_subset(part.info):
        return
    slices: dict[str, list[int | None]] = defaultdict(list)
    for image in part.images:
        slices[image["study_uid"]].append(image["pe_present"])
    for exam in part.exams:
        present = slices.get(exam["study_uid"], [None])
        if None not in present:
            for doubt in exam_doubts(exam, present.count(1), len(present)):
                yield f"{exam['patient_id']}: study {exam['study_uid']}: {doubt}"


def _holds_subset(info: Mapping[str, Any]) -> bool:
    """Whether a set, or one of the sets merged into it, was converted only in part."""
    members = info.get("sets")
    inner = members.values() if isinstance(members, Mapping) else ()
    return bool(info.get("subset")) or any(
        isinstance(each, Mapping) and _holds_subset(each) for each in inner
    )


def _study_faults(part: SplitFile) -> Iterator[str]:
    """Faults in the order and lung box of each series."""
    series: dict[tuple, list[Mapping[str, Any]]] = defaultdict(list)
    for image in part.images:
        series[(image["study_uid"], image["series_uid"])].append(image)
    for (study, _), images in series.items():
        images = sorted(images, key=lambda image: image["slice_index"])
        where = f"{part.name}.json, study {study}"
        indices = [image["slice_index"] for image in images]
        if len(set(indices)) != len(indices):
            yield f"{where}: a slice_index occurs twice"
        z = [image["z_mm"] for image in images if image["z_mm"] is not None]
        if z != sorted(z):
            yield f"{where}: slice_index does not run from feet to head"
        if len(z) > 1 and len(set(z)) == 1:
            yield f"{where}: all slices lie at z_mm {z[0]}"
        if len({tuple(image["lung_box"] or ()) for image in images}) > 1:
            yield f"{where}: slices differ in lung_box"
        if len({image["patient_id"] for image in images}) > 1:
            yield f"{where}: belongs to several patients"


def _groups_of(images: Iterable[Mapping[str, Any]]) -> dict[str, set[str | None]]:
    """Patient to the groups named by its slices; should be one, or None without a group."""
    groups: dict[str, set[str | None]] = defaultdict(set)
    for image in images:
        groups[image["patient_id"]].add(image.get("group"))
    return groups


def split_faults(parts: Mapping[str, SplitFile]) -> Iterator[str]:
    """Faults of patients, groups, studies, files and ids between the files."""
    splits = [parts[name] for name in SPLITS if name in parts]
    for index, one in enumerate(splits):
        for other in splits[index + 1 :]:
            yield from _overlap(one, other)
    outside = {patient for part in splits if part.name != "test" for patient in part.patients()}
    folds = sorted({name[:-4] for name in parts if name.startswith("fold") and name[-4:] == "_val"})
    in_splits = {image["file_name"]: (image, part) for part in splits for image in part.images}
    held_out: Counter[str] = Counter()
    for fold in folds:
        train, val = parts.get(f"{fold}_train"), parts[f"{fold}_val"]
        if train is None:
            yield f"{fold}_val.json without {fold}_train.json"
            continue
        yield from _overlap(train, val, shared_ids=False)
        yield from _differences(train, in_splits)
        yield from _differences(val, in_splits)
        if train.patients() | val.patients() != outside:
            yield f"{fold}: train and val are not the patients outside test"
        held_out.update(val.patients())
    if folds and (set(held_out) != outside or max(held_out.values(), default=1) > 1):
        yield "folds: not every patient outside test is validated exactly once"


def _differences(
    fold: SplitFile, in_splits: Mapping[str, tuple[Mapping, SplitFile]]
) -> Iterator[str]:
    """Slices of a fold that differ from the same slices in the splits."""
    for image in fold.images:
        twin, part = in_splits.get(image["file_name"], (None, None))
        if twin is None or part is None:
            yield f"{fold.name}.json, {image['file_name']}: in no split"
            continue
        one, other = fold.annotations.get(image["id"], []), part.annotations.get(twin["id"], [])
        if image != twin or one != other:
            yield f"{fold.name}.json, {image['file_name']}: differs from {part.name}.json"


def _overlap(one: SplitFile, other: SplitFile, shared_ids: bool = True) -> Iterator[str]:
    names = f"{one.name} and {other.name}"
    for key in ("patient_id", "study_uid", "sop_uid", "file_name", "group"):
        both = {image.get(key) for image in one.images} & {image.get(key) for image in other.images}
        shared = sorted(str(value) for value in both if value is not None)
        if shared:
            yield f"{names} share {len(shared)} of {key}: {', '.join(shared[:5])}"
    if shared_ids:
        same = {image["id"] for image in one.images} & {image["id"] for image in other.images}
        if same:
            yield f"{names} share {len(same)} image ids"


def report_faults_of(
    report: Mapping[str, Any], parts: Mapping[str, SplitFile], on_disk: Iterable[str]
) -> Iterator[str]:
    """Checks that nothing is lost: the report against the splits, the splits against the files."""
    slices: Counter[str] = Counter()
    positives: Counter[str] = Counter()
    annotations: Counter[str] = Counter()
    listed: set[str] = set()
    groups = _groups_of(image for name in SPLITS if name in parts for image in parts[name].images)
    for name in SPLITS:
        for image in parts[name].images if name in parts else ():
            patient = image["patient_id"]
            slices[patient] += 1
            positives[patient] += bool(image["pe_present"])
            annotations[patient] += len(parts[name].annotations.get(image["id"], ()))
            listed.add(image["file_name"])
    reported = {entry["patient_id"]: entry for entry in report.get("patients", ())}
    for patient in sorted(slices.keys() - reported.keys()):
        yield f"conversion_report.json: no entry for patient {patient}"
    for patient, entry in sorted(reported.items()):
        if entry["status"] != "converted":
            if slices[patient]:
                yield f"patient {patient} was skipped, yet has {slices[patient]} slices"
            continue
        found = (slices[patient], positives[patient], annotations[patient])
        wanted = (entry["slices"], entry["positive_slices"], entry["annotations"])
        if found != wanted:
            yield (
                f"patient {patient}: {found} slices, positive slices and annotations in the "
                f"splits, {wanted} converted"
            )
        if groups.get(patient, {entry.get("group")}) != {entry.get("group")}:
            yield f"patient {patient}: not of group {entry.get('group')} in the splits"
    files = set(on_disk)
    for name in sorted(listed - files):
        yield f"{name}: listed, but no such file"
    for name in sorted(files - listed):
        yield f"{name}: on disk, but in no split"


def _unique(part: str, what: str, values: Iterable[Any]) -> Iterator[str]:
    for value, count in Counter(values).items():
        if count > 1:
            yield f"{part}.json: {what} {value} occurs {count} times"
