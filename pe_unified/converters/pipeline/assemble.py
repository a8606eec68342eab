"""Assembles the JSON files of a data set from patient records, one in memory at a time."""

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_unified.converters.contract.schema import CATEGORIES
from pe_unified.files import put_all_in_place

#: Files of folds; those left by a run with more folds are removed.
_FOLD = re.compile(r"fold\d+_(train|val)")


class CocoWriter:
    """One COCO JSON file, written next to its final place as it grows.

    Images go straight into the file; annotations go to a second file and are appended.
    """

    def __init__(self, path: Path, info: Mapping[str, Any]):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._waiting = path.with_name(f".{path.name}.annotations.{os.getpid()}.part")
        self._main = open(self.partial, "w", encoding="utf-8")  # noqa: SIM115
        self._rest = open(self._waiting, "w", encoding="utf-8")  # noqa: SIM115
        head = {"info": info, "licenses": [], "categories": CATEGORIES}
        self._main.write(json.dumps(head)[:-1] + ', "images": [')
        self._exams: list[Mapping[str, Any]] = []
        self._images = self._annotations = 0

    def add(
        self,
        images: Iterable[Mapping[str, Any]],
        annotations: Iterable[Mapping[str, Any]],
        exams: Iterable[Mapping[str, Any]],
    ) -> None:
        for image in images:
            self._main.write(("," if self._images else "") + "\n" + json.dumps(image))
            self._images += 1
        for annotation in annotations:
            self._rest.write(("," if self._annotations else "") + "\n" + json.dumps(annotation))
            self._annotations += 1
        self._exams += exams

    def close(self) -> None:
        """Join the parts; ``partial`` is then complete and can be moved into place."""
        self._rest.close()
        self._main.write('\n], "annotations": [')
        with open(self._waiting, encoding="utf-8") as rest:
            while text := rest.read(1 << 20):
                self._main.write(text)
        exams = ",".join("\n" + json.dumps(exam) for exam in self._exams)
        self._main.write(f'\n], "exams": [{exams}\n]}}\n')
        self._main.close()
        self._waiting.unlink()


def write_annotations(
    root: Path,
    records: Iterable[Mapping[str, Any]],
    parts_of: Mapping[str, Sequence[str]],
    names: Sequence[str],
    info: Mapping[str, Any],
) -> None:
    """Write ``annotations/<name>.json`` for each name.

    Args:
        root: the dataset folder.
        records: of patients, in the order of the files; each with ``images``,
            ``annotations`` (one list per image) and ``exams``.
        parts_of: for each patient, the names of the files it belongs to.
        names: all files to write, including those without patients.
        info: the same in all files.

    An image has the same id in every file.
    """
    folder = root / "annotations"
    writers = {name: CocoWriter(folder / f"{name}.json", info) for name in names}
    image_id = annotation_id = 0
    for record in records:
        images, annotations = [], []
        for image, of_image in zip(record["images"], record["annotations"], strict=True):
            image_id += 1
            images.append({"id": image_id, **image})
            for annotation in of_image:
                annotation_id += 1
                annotations.append({"id": annotation_id, "image_id": image_id, **annotation})
        for name in parts_of[record["patient"]["patient_id"]]:
            writers[name].add(images, annotations, record["exams"])
    for writer in writers.values():
        writer.close()
    # All at once: else a patient whose split changes could be in both.
    put_all_in_place({writer.partial: writer.path for writer in writers.values()})
    for path in folder.glob("*.json"):
        if path.stem not in writers and _FOLD.fullmatch(path.stem):
            path.unlink()


def totals_of(entries: Collection[Mapping[str, Any]], painted: Collection[str]) -> dict[str, int]:
    """Counts over the patients of a report; ``painted``: identifiers of synthetic ones."""
    converted = [entry for entry in entries if entry["status"] == "converted"]
    synthetic = [entry["slices"] for entry in converted if entry["patient_id"] in painted]
    counts = ("slices", "positive_slices", "annotations")
    return {
        "patients": len(entries),
        "converted": len(converted),
        "skipped": len(entries) - len(converted),
        **{name: sum(entry[name] for entry in converted) for name in counts},
        "synthetic_patients": len(synthetic),
        "synthetic_slices": sum(synthetic),
    }
