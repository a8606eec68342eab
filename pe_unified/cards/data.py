"""A converted set in numbers: its source, its splits, and exclusions with their reasons."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_unified.datasets.slice_dataset import read_annotations
from pe_unified.datasets.sources import sources_of
from pe_unified.errors import unnamed

SPLITS = ("train", "val", "test")
#: What a set states about itself.
_TOLD = ("description", "source", "licence", "converter", "converter_version", "split_seed")
#: Numbers that identify a patient, a study or a file in the reason for an exclusion.
_IDENTIFIER = re.compile(r"\d[\d.]{5,}")


def describe_data(root: Path) -> dict[str, Any]:
    """What a card states about a set; contains no patient's name.

    Returns:
        ``info``: what the set states about itself, None where it states nothing. ``splits``: by
        name, ``patients``, ``studies``, ``slices``, ``positive_patients``, ``positive_slices``,
        ``unlabelled_slices``, ``spacing_mm`` (lowest, median and highest distance between slices),
        ``emboli``, the annotated components, and ``sets``, each with ``set`` and ``source``, as in
        :func:`~pe_unified.checkpoints.training_data`. ``exclusions``: ``patients`` that were
        found, ``converted``, and ``reasons`` with their numbers; None without a report of the
        conversion.

    Raises:
        FileNotFoundError, DatasetError: the folder holds no converted set.
    """
    splits: dict[str, Any] = {}
    info: dict[str, Any] = {}
    for split in SPLITS:
        path = root / "annotations" / f"{split}.json"
        if path.is_file():
            _, coco = read_annotations(path)
            info = info or coco.get("info") or {}
            splits[split] = describe_split(coco["images"], len(coco["annotations"]))
            splits[split]["sets"] = [
                {key: each[key] for key in ("set", "source")}
                for each in sources_of(coco, coco["images"])
            ]
    if not splits:
        read_annotations(root / "annotations" / "train.json")  # its error says what to do
    members = info.get("sets")
    told = {key: info.get(key) for key in _TOLD}
    told["synthetic"] = info.get("synthetic")
    if isinstance(members, Mapping):
        told["sets"] = {
            name: {key: each.get(key) for key in (*_TOLD, "synthetic")}
            for name, each in members.items()
        }
    return {"info": told, "splits": splits, "exclusions": _exclusions(root)}


def describe_split(images: Sequence[Mapping[str, Any]], emboli: int) -> dict[str, Any]:
    """A split in numbers, from its slices' entries and the number of its annotations."""
    positive = [image for image in images if image["pe_present"] == 1]
    steps = sorted(
        step for image in images if (step := (image.get("spacing_mm") or [None] * 3)[2]) is not None
    )
    ends = [steps[0], steps[len(steps) // 2], steps[-1]] if steps else None
    return {
        "patients": len({image["patient_id"] for image in images}),
        "studies": len({(image["patient_id"], image["study_uid"]) for image in images}),
        "slices": len(images),
        "positive_patients": len({image["patient_id"] for image in positive}),
        "positive_slices": len(positive),
        "unlabelled_slices": sum(image["pe_present"] is None for image in images),
        "emboli": emboli,
        "spacing_mm": ends,
    }


def _exclusions(root: Path) -> dict[str, Any] | None:
    """Exclusions from the report of a conversion; None if it cannot be read."""
    try:
        report = json.loads((root / "conversion_report.json").read_text(encoding="utf-8"))
        entries = report["patients"]
        gone = [entry for entry in entries if entry["status"] != "converted"]
        reasons = Counter(
            _IDENTIFIER.sub("...", unnamed(str(entry.get("reason") or "not stated")))
            for entry in gone
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {
        "patients": len(entries),
        "converted": len(entries) - len(gone),
        "reasons": dict(reasons.most_common()),
    }
