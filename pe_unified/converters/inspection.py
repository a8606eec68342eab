"""Inspects a converted folder in one pass: violations of its format, and doubtful data."""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pe_unified.converters.contract import hu_check
from pe_unified.converters.contract.annotations import (
    SplitFile,
    exam_warnings,
    is_report_entry,
    load_split_file,
    part_faults,
    report_faults_of,
    split_faults,
)
from pe_unified.converters.contract.fingerprint import SlicePrint
from pe_unified.converters.contract.pixels import Checked, check_slices
from pe_unified.converters.contract.splits import SPLITS
from pe_unified.converters.pipeline.run import REPORT, report_warnings
from pe_unified.converters.pipeline.worker import PRELOAD
from pe_unified.errors import DataError
from pe_unified.progress import phase, track
from pe_unified.workers import in_order, open_executor

_CHUNK = 32


@dataclass(frozen=True)
class Found:
    """One finding.

    Fields:
        check: what was checked, in words.
        text: names the file or the patient.
    """

    check: str
    text: str


@dataclass
class Inspection:
    """The content of a folder, and its faults.

    Fields:
        faults: violate the format.
        warnings: doubtful, but may be right.
        parts: files of annotations, by name.
        statistics: HU under the masks, by patient.
        prints: fingerprints of the slices, if requested.
    """

    faults: list[Found] = field(default_factory=list)
    warnings: list[Found] = field(default_factory=list)
    parts: dict[str, SplitFile] = field(default_factory=dict)
    statistics: dict[str, hu_check.HuStatistics] = field(default_factory=dict)
    prints: list[SlicePrint] = field(default_factory=list)

    def add_faults(self, check: str, texts: Iterable[str]) -> None:
        self.faults += [Found(check, text) for text in texts]


def inspect_set(root: str | os.PathLike, workers: int = 1, prints: bool = False) -> Inspection:
    """Inspect a converted folder.

    Args:
        root: of the data set.
        workers: processes that decode the pixels.
        prints: also take the fingerprints of all slices.
    """
    root = Path(root).resolve()
    found = Inspection()
    found.add_faults(
        "files",
        (
            f"annotations/{split}.json is missing; convert again"
            for split in SPLITS
            if not (root / "annotations" / f"{split}.json").is_file()
        ),
    )
    for path in track(sorted((root / "annotations").glob("*.json")), "reading annotations"):
        part = load_split_file(path)
        if isinstance(part, str):
            found.add_faults("files", [part])
        else:
            found.parts[part.name] = part
    for part in track(found.parts.values(), "checking annotations"):
        found.add_faults("labels", part_faults(part))
    report, unreadable = _read_report(root)
    found.add_faults("files", unreadable)
    with phase("comparing splits and files"):
        found.add_faults("splits", split_faults(found.parts))
        found.add_faults("files", report_faults_of(report, found.parts, _on_disk(root)))
    _inspect_pixels(root, found, workers, prints)
    doubts = [Found("conversion", text) for text in (report_warnings(report) if report else ())]
    for split in SPLITS:
        if split in found.parts:
            doubts += [Found("exam labels", text) for text in exam_warnings(found.parts[split])]
    by_text: dict[str, Found] = {}
    for doubt in doubts:  # the conversion warned of the same exams
        by_text.setdefault(doubt.text, doubt)
    found.warnings = list(by_text.values())
    return found


def _read_report(root: Path) -> tuple[dict[str, Any], list[str]]:
    """The report, empty if it cannot be used, and the reason."""
    try:
        report = json.loads((root / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {}, [f"{REPORT}: cannot be read ({error}); convert again"]
    entries = report.get("patients") if isinstance(report, dict) else None
    if not isinstance(entries, list) or not all(is_report_entry(entry) for entry in entries):
        return {}, [f"{REPORT}: is not a list of patients with their results; convert again"]
    return report, []


def _on_disk(root: Path) -> Iterator[str]:
    for patient in (root / "images").glob("*/"):
        for path in patient.iterdir():
            yield f"images/{patient.name}/{path.name}"


def _inspect_pixels(root: Path, inspection: Inspection, workers: int, prints: bool) -> None:
    parts: Mapping[str, SplitFile] = inspection.parts
    series: dict[tuple[str, str], list[tuple[dict[str, Any], list[dict[str, Any]]]]]
    series = defaultdict(list)
    seen: set[str] = set()
    checks_hu = True
    for part in (parts[name] for name in sorted(parts, key=lambda name: name not in SPLITS)):
        checks_hu = checks_hu and part.info.get("hu_check", True)
        for image in part.images:
            if image["file_name"] not in seen:
                seen.add(image["file_name"])
                annotations = part.annotations.get(image["id"], [])
                series[image["patient_id"], image["series_uid"]].append((image, annotations))
    slices: dict[str, list[Checked]] = defaultdict(list)
    for (patient, _), of_series in series.items():
        of_series.sort(key=lambda item: item[0]["slice_index"])
        slices[patient] += [
            (image, annotations, mirrored)
            for (image, annotations), (_, mirrored) in zip(of_series, reversed(of_series))
        ]
    statistics: dict[str, hu_check.HuStatistics] = defaultdict(hu_check.HuStatistics)
    chunks = [
        (root, patient, of_patient[start : start + _CHUNK], prints)
        for patient, of_patient in slices.items()
        for start in range(0, len(of_patient), _CHUNK)
    ]
    with open_executor(workers, preload=PRELOAD) as (executor, slots):
        checked = in_order(executor, slots, check_slices, chunks)
        for found in track(checked, f"checking pixels, {_CHUNK} slices at a time", len(chunks)):
            inspection.add_faults("pixels", found.faults)
            inspection.prints += found.prints
            statistics[found.patient_id].add(found.statistics)
    inspection.statistics = dict(sorted(statistics.items()))
    if not checks_hu:
        return
    all_images = (image for part in parts.values() for image in part.images)
    unchecked = {image["patient_id"] for image in all_images if image.get("hu_unchecked")}
    for patient, measured in sorted(statistics.items()):
        if patient in unchecked:
            continue
        try:
            hu_check.judge(measured, patient, "convert the patient again from checked files")
        except DataError as error:
            inspection.add_faults("HU under the masks", [str(error)])
