"""Check a converted folder against its contract and its pixels.

Every slice decodes as 16-bit grayscale of the listed size; every mask decodes, has the listed area,
a tight box and one 8-connected component; the HU under the masks are those of emboli (not judged
where a set was converted with --no-hu-check); labels agree with each other; splits and folds share
no patient and no group; what the report says was converted is all there, and nothing else. Prints
each fault and exits with 1 if there is any. Warnings tell what is doubtful and may be right: exams
whose labels break a rule of RSNA-STR PE, and what the conversion warned of.

    pe-unified verify DATA --workers 8
"""

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pe_unified.converters.command_line import add_workers, command
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
from pe_unified.converters.contract.pixels import Checked, check_slices
from pe_unified.converters.contract.splits import SPLITS
from pe_unified.converters.pipeline.run import REPORT, report_warnings
from pe_unified.converters.pipeline.worker import PRELOAD
from pe_unified.errors import DataError
from pe_unified.progress import phase, track
from pe_unified.workers import in_order, open_executor

_CHUNK = 32


def verify(root: str | os.PathLike, workers: int = 1) -> list[str]:
    """All faults of a converted folder, each naming the file or the patient; none is good.

    Args:
        root: the dataset folder.
        workers: processes that decode the pixels.
    """
    return examine(root, workers)[0]


def examine(root: str | os.PathLike, workers: int = 1) -> tuple[list[str], list[str]]:
    """As :func:`verify`; and warnings, of what is doubtful and may be right."""
    root = Path(root).resolve()
    faults: list[str] = []
    parts: dict[str, SplitFile] = {}
    for split in SPLITS:
        if not (root / "annotations" / f"{split}.json").is_file():
            faults.append(f"annotations/{split}.json is missing; convert again")
    for path in track(sorted((root / "annotations").glob("*.json")), "reading annotations"):
        part = load_split_file(path)
        if isinstance(part, str):
            faults.append(part)
        else:
            parts[part.name] = part
    for part in track(parts.values(), "checking annotations"):
        faults += part_faults(part)
    report, unreadable = _read_report(root)
    faults += unreadable
    with phase("comparing splits and files"):
        faults += split_faults(parts)
        faults += report_faults_of(report, parts, _on_disk(root))
    faults += _pixel_faults(root, parts, workers)
    warnings = report_warnings(report) if report else []
    for split in SPLITS:
        warnings += exam_warnings(parts[split]) if split in parts else ()
    return faults, list(dict.fromkeys(warnings))


def _read_report(root: Path) -> tuple[dict[str, Any], list[str]]:
    """The report, empty where it cannot be used, and why."""
    try:
        report = json.loads((root / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {}, [f"{REPORT}: cannot be read ({error}); convert again"]
    entries = report.get("patients") if isinstance(report, dict) else None
    if not isinstance(entries, list) or not all(is_report_entry(entry) for entry in entries):
        return {}, [f"{REPORT}: is no list of patients with what came of them; convert again"]
    return report, []


def _on_disk(root: Path) -> Iterator[str]:
    for patient in (root / "images").glob("*/"):
        for path in patient.iterdir():
            yield f"images/{patient.name}/{path.name}"


def _pixel_faults(root: Path, parts: Mapping[str, SplitFile], workers: int) -> Iterator[str]:
    series: dict[tuple[str, str], list[tuple[dict[str, Any], list[dict[str, Any]]]]]
    series = defaultdict(list)
    seen: set[str] = set()
    unchecked: set[str] = set()
    checks_hu = True
    for part in (parts[name] for name in sorted(parts, key=lambda name: name not in SPLITS)):
        checks_hu = checks_hu and part.info.get("hu_check", True)
        for image in part.images:
            if image["file_name"] not in seen:
                seen.add(image["file_name"])
                annotations = part.annotations.get(image["id"], [])
                if image.get("hu_unchecked"):
                    unchecked.add(image["patient_id"])
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
        (root, patient, of_patient[start : start + _CHUNK])
        for patient, of_patient in slices.items()
        for start in range(0, len(of_patient), _CHUNK)
    ]
    with open_executor(workers, preload=PRELOAD) as (executor, slots):
        checked = in_order(executor, slots, check_slices, chunks)
        for found in track(checked, f"checking pixels, {_CHUNK} slices at a time", len(chunks)):
            yield from found.faults
            statistics[found.patient_id].add(found.statistics)
    if not checks_hu:
        return
    for patient, measured in sorted(statistics.items()):
        if patient in unchecked:
            continue
        try:
            hu_check.judge(measured, patient, "convert the patient again from checked files")
        except DataError as error:
            yield str(error)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", metavar="DATA", type=Path, help="a converted folder")
    add_workers(parser)
    parser.add_argument(
        "--show", type=int, default=50, metavar="N", help="faults to print (default: %(default)s)"
    )
    return parser


@command
def main() -> int:
    args = make_parser().parse_args()
    if not args.root.is_dir():
        print(f"error: no folder at {args.root}", file=sys.stderr)
        return 2
    faults, warnings = examine(args.root, args.workers)
    for lines in (faults, [f"warning: {warning}" for warning in warnings]):
        for line in lines[: args.show]:
            print(line)
        if len(lines) > args.show:
            print(f"and {len(lines) - args.show} more")
    warned = f", {len(warnings)} warnings" if warnings else ""
    print(f"{args.root}: {f'{len(faults)} faults' if faults else 'no fault'}{warned}")
    return 1 if faults else 0
