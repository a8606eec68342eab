"""Class balance of the splits, and labels that are likely to be mistakes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pe_unified.audit.findings import Finding
from pe_unified.cards.data import describe_split
from pe_unified.converters.contract.annotations import SplitFile
from pe_unified.converters.contract.hu_check import HuStatistics
from pe_unified.ct.exam_labels import EXAM_LABELS
from pe_unified.errors import listed
from pe_unified.evaluation.intervals import FEW

#: Shares of positive slices that differ by more than this factor are reported.
_SHARES = 2.0
#: A patient stands out beyond so many median absolute deviations, and at least so many HU.
_FAR, _LEAST_FAR_HU = 5.0, 30.0


def describe_splits(parts: Mapping[str, SplitFile], splits: Sequence[str]) -> dict[str, Any]:
    """Numbers of each split, including exam labels."""
    found = {}
    for split in (name for name in splits if name in parts):
        part = parts[split]
        emboli = sum(map(len, part.annotations.values()))
        labels = {
            name: [sum(exam.get(name) == value for exam in part.exams) for value in (1, 0)]
            for name in EXAM_LABELS
        }
        known = {name: counts for name, counts in labels.items() if any(counts)}
        found[split] = {**describe_split(part.images, emboli), "exam_labels": known}
    return found


def balance_findings(splits: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Splits in which a class is missing or rare."""
    shares = {}
    for name, each in splits.items():
        labelled = each["slices"] - each["unlabelled_slices"]
        if not each["slices"]:
            yield Finding("class balance", "warning", f"{name} is empty")
            continue
        if not labelled:
            yield Finding("class balance", "warning", f"{name}: no slice is labelled")
            continue
        shares[name] = each["positive_slices"] / labelled
        if each["positive_slices"] in (0, labelled):
            what = "without" if not each["positive_slices"] else "with"
            yield Finding("class balance", "warning", f"{name}: only slices {what} embolism")
        if each["positive_patients"] == each["patients"]:
            yield Finding(
                "class balance",
                "warning",
                f"{name}: every patient has embolism, so verdicts on exams cannot be tested there",
            )
        if each["patients"] < FEW:
            text = f"{name}: {each['patients']} patients; intervals over so few are wide"
            yield Finding("class balance", "warning", text)
    if (
        shares
        and min(shares.values()) > 0
        and max(shares.values()) > _SHARES * min(shares.values())
    ):
        told = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        yield Finding("class balance", "warning", f"shares of positive slices differ: {told}")


def gap_findings(parts: Mapping[str, SplitFile], splits: Sequence[str]) -> Iterator[Finding]:
    """Negative slices between two positive ones whose emboli overlap: often a wrong label."""
    found: list[str] = []
    for part in (parts[name] for name in splits if name in parts):
        series: dict[tuple, dict[int, Mapping[str, Any]]] = defaultdict(dict)
        for image in part.images:
            key = image["patient_id"], image["study_uid"], image["series_uid"]
            series[key][image["slice_index"]] = image
        for own in series.values():
            for index, image in own.items():
                below, above = own.get(index - 1), own.get(index + 1)
                if image["pe_present"] == 0 and below and above:
                    ends = [part.annotations.get(each["id"], []) for each in (below, above)]
                    if any(_overlap(a["bbox"], b["bbox"]) for a in ends[0] for b in ends[1]):
                        found.append(image["file_name"])
    if found:
        yield Finding(
            "labels",
            "warning",
            f"{len(found)} negative slices lie between two positive ones whose emboli overlap: "
            f"{listed(found)}",
            items=found,
            files=found[:4],
        )


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(
        one[side] < other[side] + other[side + 2] and other[side] < one[side] + one[side + 2]
        for side in (0, 1)
    )


def hu_findings(statistics: Mapping[str, HuStatistics]) -> Iterator[Finding]:
    """Patients whose HU under the masks differ from those of the others."""
    means = {patient: each.mean for patient, each in statistics.items() if each.pixels}
    if len(means) < FEW:
        return
    middle = float(np.median(list(means.values())))
    spread = float(np.median([abs(mean - middle) for mean in means.values()]))
    limit = max(_FAR * spread, _LEAST_FAR_HU)
    far = [patient for patient, mean in means.items() if abs(mean - middle) > limit]
    if far:
        told = listed([f"{patient} ({means[patient]:.0f} HU)" for patient in far])
        yield Finding(
            "HU under the masks",
            "warning",
            f"unlike the other patients' (median {middle:.0f} HU): {told}",
            items=far,
        )


def describe_hu(statistics: Mapping[str, HuStatistics]) -> dict[str, dict[str, float]]:
    """By patient with masks: mean HU, share that looks like emboli, contrast around, pixels."""
    return {
        patient: {
            "mean": round(each.mean, 1),
            "share": round(each.share, 3),
            "contrast": round(each.contrast, 1),
            "pixels": each.pixels,
        }
        for patient, each in statistics.items()
        if each.pixels
    }
