"""The audit of a converted set: all checks, ``audit.json`` and ``index.html``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pe_unified.audit.duplicates import duplicate_findings, find_alike, owners_of, series_findings
from pe_unified.audit.findings import Finding
from pe_unified.audit.geometry import describe_geometry, geometry_findings, series_of
from pe_unified.audit.labels import (
    balance_findings,
    describe_hu,
    describe_splits,
    gap_findings,
    hu_findings,
)
from pe_unified.audit.page import audit_page
from pe_unified.converters.contract.splits import SPLITS
from pe_unified.converters.inspection import Found, Inspection, inspect_set
from pe_unified.errors import counted
from pe_unified.files import write_text
from pe_unified.json_files import write_json


def audit(root: Path, out: Path, workers: int = 1) -> dict[str, Any]:
    """Check a converted set; violations of its contract are errors, as for ``verify``.

    Args:
        root: folder of the set.
        out: folder for ``audit.json`` and ``index.html``.
        workers: processes that decode the pixels.

    Returns:
        the content of ``audit.json``: ``set``, ``verdict`` in words, ``errors`` and ``warnings``
        (numbers), ``findings``, ``splits``, ``geometry``, ``hu_under_masks`` by patient,
        ``compared``, and ``info`` of the set.
    """
    seen = inspect_set(root, workers, prints=True)
    splits = [name for name in SPLITS if name in seen.parts]
    images = {
        image["file_name"]: (image, seen.parts[name].annotations.get(image["id"], []), name)
        for name in splits
        for image in seen.parts[name].images
    }
    entries = [image for image, _, _ in images.values()]
    series = series_of(entries)
    numbers = describe_splits(seen.parts, splits)
    prints = [each for each in seen.prints if each.file_name in images]
    pairs = find_alike(root, prints, owners_of(entries))
    split_of = {image["patient_id"]: name for image, _, name in images.values()}
    group_of = {image["patient_id"]: image.get("group") for image in entries}
    findings = [
        *_from_inspection(seen),
        *series_findings((image, name) for image, _, name in images.values()),
        *duplicate_findings(pairs.alike, split_of, group_of),
        *hu_findings(seen.statistics),
        *gap_findings(seen.parts, splits),
        *geometry_findings(series),
        *balance_findings(numbers),
    ]
    findings.sort(key=lambda finding: finding.severity != "error")
    errors = sum(finding.severity == "error" for finding in findings)
    blank = sum(each.look < 0 for each in prints)
    compared = f"{pairs.slices} slices compared with those of other patients"
    left = len(prints) - blank - pairs.slices
    compared += f", {left} more only checked for equal pixels" if left else ""
    compared += f", {blank} blank ones not compared" if blank else ""
    if pairs.crowded:
        compared += f"; {pairs.crowded} slices look like too many others to be compared fully"
    found = {
        "set": root.resolve().name,
        "verdict": _verdict(errors, len(findings) - errors),
        "errors": errors,
        "warnings": len(findings) - errors,
        "findings": [finding.as_dict() for finding in findings],
        "splits": numbers,
        "geometry": describe_geometry(series),
        "hu_under_masks": describe_hu(seen.statistics),
        "compared": compared,
        "info": seen.parts[splits[0]].info if splits else {},
    }
    write_json(out / "audit.json", found)
    write_text(out / "index.html", audit_page(root, found, images))
    return found


def _verdict(errors: int, warnings: int) -> str:
    if errors:
        said = counted(errors, "error"), counted(warnings, "warning")
        return f"{said[0]}: results on this set cannot be trusted; {said[1]}"
    if warnings:
        return f"no error, {counted(warnings, 'warning')}: check whether they are right"
    return "nothing was found"


def _from_inspection(seen: Inspection) -> Iterator[Finding]:
    """The messages of ``verify``, grouped by kind."""
    kinds: tuple[tuple[Any, Sequence[Found]], ...] = (
        ("error", seen.faults),
        ("warning", seen.warnings),
    )
    for severity, every in kinds:
        for check in dict.fromkeys(each.check for each in every):
            texts = [each.text for each in every if each.check == check]
            name = "leaks between splits" if check == "splits" else check
            more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
            yield Finding(name, severity, f"{texts[0]}{more}", items=texts)
