"""Boxes and labels of slices, from tables with one line each, or from COCO."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pe_unified.converters.contract.schema import annotation_of_box, box_within
from pe_unified.converters.own.table import renamed, yes_or_no
from pe_unified.converters.own.tree import names_of
from pe_unified.converters.pipeline.plan import stamp
from pe_unified.csv_files import number_in, read_csv
from pe_unified.ct.headers import read_headers
from pe_unified.ct.segments import choose_emboli
from pe_unified.ct.study import CTStudy
from pe_unified.errors import DataError, listed

#: Files looked for in RAW; each may hold both.
BOXES, SLICES, COCO = "boxes.csv", "slices.csv", "boxes.json"
_BOX = ("x", "y", "w", "h")
_PLACES = ("sop", "slice", "instance")
#: Number of lines listed in a message; the rest is only counted.
NAMED = 3


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mark:
    """One line: a box on a slice, or a label of the slice.

    Attributes:
        where: position in the file, for errors.
        study: empty if the file does not name it.
        sop: UID of the slice, or its file name; empty if not given.
        index: of the slice, from 0, from feet to head or in the order of a volume file.
        instance: InstanceNumber of a DICOM slice.
        box: x, y, width, height in pixels.
        pe: label of the slice.
        outlined: whether the box has an outline, which is not read.
    """

    where: str
    study: str = ""
    sop: str = ""
    index: int | None = None
    instance: int | None = None
    box: Box | None = None
    pe: int | None = None
    outlined: bool = False

    @property
    def slices(self) -> tuple[str, str]:
        """Possible meanings of ``sop``: a UID or file name, or a file name with another ending."""
        return names_of(PurePosixPath(self.sop.replace("\\", "/")).name)


@dataclass
class SliceMarks:
    """The marks of a study by slice index.

    Attributes:
        boxes: annotations.
        pe: 1 or 0.
        problems: marks that could not be used.
        notes: what was left out on purpose.
    """

    boxes: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    pe: dict[int, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_marks(path: Path, labels: tuple[str, ...] = ()) -> tuple[Mark, ...]:
    """Read all marks of a file: CSV, or COCO if it ends in .json.

    Args:
        labels: categories of COCO that are emboli, if it has several; see ``choose_emboli``.

    Raises:
        DataError: it is unreadable, lacks a column, has text where a number is expected, or its
            categories do not show which are emboli.
    """
    return _read(path, labels, stamp(path))


@lru_cache(maxsize=8)  # a file for all studies is read once per process
def _read(path: Path, labels: tuple[str, ...], state: str) -> tuple[Mark, ...]:
    is_coco = path.suffix.lower() == ".json"
    return tuple(_read_coco(path, labels) if is_coco else _read_table(path))


def _read_table(path: Path) -> list[Mark]:
    table = read_csv(path)
    named = renamed(table)
    columns = set(named.values())
    boxed = [name for name in _BOX if name in columns]
    if not columns.intersection(_PLACES) or not (len(boxed) == 4 or "pe" in columns):
        reason = f"has the columns {', '.join(table.columns)}"
        cure = "name the slice (sop, slice or instance), and x, y, w, h of a box or pe of the slice"
        raise DataError(path, reason, cure)
    return [
        _mark(path, line, {named[name]: text for name, text in values.items()}, len(boxed) == 4)
        for line, values in table.rows
    ]


def _mark(path: Path, line: int, said: Mapping[str, str], boxed: bool) -> Mark:
    where = f"{path.name}, line {line}"
    try:
        sides = [said[name] for name in _BOX] if boxed else []
        box = _box(sides) if any(sides) else None
        index, instance = (_whole(said.get(name, "")) for name in ("slice", "instance"))
        pe = yes_or_no(said.get("pe", ""))
    except ValueError as error:
        reason = f"line {line} holds a value that is no number or label"
        raise DataError(path, reason, "correct or remove the line", error) from error
    if not said.get("sop") and index is None and instance is None:
        raise DataError(path, f"line {line} names no slice", "correct or remove the line")
    if box is not None and min(box[2:]) <= 0:
        raise DataError(path, f"line {line} has a box without size", "correct or remove the line")
    return Mark(where, said.get("study", ""), said.get("sop", ""), index, instance, box, pe)


def _box(sides: Iterable[Any]) -> Box:
    x, y, width, height = (number_in(str(side)) for side in sides)
    return x, y, width, height


def _whole(text: str) -> int | None:
    if not text:
        return None
    value = number_in(text)
    if value != int(value):
        raise ValueError(text)
    return int(value)


def _read_coco(path: Path, labels: Sequence[str]) -> list[Mark]:
    """Boxes of emboli; an image without one is a slice without embolism."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        images = {image["id"]: image for image in content["images"]}
        names = {each["id"]: str(each["name"]) for each in content.get("categories", ())}
        drawn = content["annotations"]
        if len(names) > 1:
            emboli = choose_emboli(names, labels, path)
            drawn = [each for each in drawn if each["category_id"] in emboli]
        marks = [
            _coco_mark(
                path,
                images[each["image_id"]],
                _box(each["bbox"]),
                None,
                bool(each.get("segmentation")),
            )
            for each in drawn
        ]
        empty = images.keys() - {each["image_id"] for each in drawn}
        return marks + [
            _coco_mark(path, image, None, 0) for key, image in images.items() if key in empty
        ]
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        cure = "export it as COCO: images with id and file_name, annotations with image_id and bbox"
        raise DataError(path, "no readable COCO file", cure, error) from error


def _coco_mark(
    path: Path, image: Mapping[str, Any], box: Box | None, pe: int | None, outlined: bool = False
) -> Mark:
    name = PurePosixPath(str(image.get("file_name", "")).replace("\\", "/")).name
    index = image.get("slice_index")
    return Mark(
        f"{path.name}, image {image['id']}",
        str(image.get("study_uid") or image.get("study") or ""),
        str(image.get("sop_uid") or ("" if index is not None else name)),
        None if index is None else int(index),
        None,
        box,
        pe,
        outlined,
    )


def marks_of(
    marks: Sequence[Mark], study: CTStudy, names: Collection[str], complete: bool
) -> SliceMarks:
    """Assign the marks of a study to its slices.

    Args:
        marks: of all studies.
        names: of the study, casefolded. Marks without a study belong to it if they name one of
            its slices; by UID, if other studies have marks in the same file.
        complete: whether every box is drawn; slices without one are then negative.
    """
    found = SliceMarks()
    own = [mark for mark in marks if not mark.study or mark.study.casefold() in names]
    finder = _Slices(study, any(mark.instance is not None for mark in own))
    lost, left, outlined = [], [], 0
    for mark in own:
        index = finder.find(mark)
        if index is None:
            if mark.study or not mark.sop:
                lost.append(mark.where)
            continue
        if mark.pe is not None and found.pe.setdefault(index, mark.pe) != mark.pe:
            found.problems.append(f"{mark.where}: slice {index} is positive and negative")
        if mark.box is not None:
            within = box_within(mark.box, study.shape[1:])
            if within is None:
                left.append(mark.where)
                continue
            if not np.allclose(within, mark.box, rtol=0, atol=1e-9):
                found.problems.append(f"{mark.where}: the box leaves the slice and was cut")
            found.boxes.setdefault(index, []).append(annotation_of_box(*within))
            outlined += mark.outlined
    if outlined:
        found.notes.append(f"outlines are not read (boxes with one: {outlined}); give a mask")
    for wheres, what in ((lost, "no such slice"), (left, "the box lies outside the slice")):
        if wheres:
            named = listed(wheres, NAMED, "; ")
            found.problems.append(f"{named}: {what}; correct or remove the lines")
    if complete and found.boxes:
        for index in range(len(study)):
            if index not in found.boxes:
                found.pe.setdefault(index, 0)
    return found


class _Slices:
    """Finds slices of a study by the names that marks use."""

    def __init__(self, study: CTStudy, by_instance: bool):
        self._study = study
        self._index: dict[str, int] = {}
        self._instance: dict[int, int] = {}
        for index, uid in enumerate(study.sop_uids):
            if study.frames[index] is not None:  # frames share the UID and number of their file
                continue
            path = study.files[index]
            for name in (*names_of(path.name), uid):
                self._index.setdefault(name, index)
            if by_instance and (number := read_headers(path)[0].instance_number) is not None:
                self._instance[number] = index

    def find(self, mark: Mark) -> int | None:
        if mark.sop:
            return next((self._index[name] for name in mark.slices if name in self._index), None)
        if mark.instance is not None:
            return self._instance.get(mark.instance)
        count = len(self._study)
        if mark.index is None or not 0 <= mark.index < count:
            return None
        grid = self._study.grid
        return grid.turn.file_slice(mark.index, count) if grid else mark.index
