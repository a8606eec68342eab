"""Ranks unread studies by how much a model could learn from them: unsure or disagreeing heads.

A study's worth is the mean of four shares, each between 0 and 1; an answer that the model does
not give counts 0.

- ``exam``: h of the exam's probability, the higher of the report's own and the exam model's.
- ``lesions``: s / (1 + s), where s is the sum of h over the lesions that can be clots.
- ``slices``: over the slices on which any head sees an embolus, the mean share of pairs of heads
  that differ (classification, mask, boxes).
- ``heads``: the mean share of pairs of heads that differ on such a lesion, weighted by its p.

p is the score shifted so that its threshold becomes 1/2, logit p = logit score - logit threshold.
h(p) = -p log2 p - (1 - p) log2 (1 - p) is the entropy of a yes or no in bits: 1 at the threshold.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import entr, expit, logit

from pe_unified.csv_files import csv_text
from pe_unified.errors import DataError
from pe_unified.files import write_text
from pe_unified.progress import track
from pe_unified.reports.file_names import REPORT
from pe_unified.review.reports import complete, find_reports
from pe_unified.review.store import ReviewStore

#: Scores are kept this far from 0 and 1, where logits are infinite.
_EDGE = 1e-4
_COLUMNS = ("rank", "study", "folder", "worth", "exam", "lesions", "slices", "heads", "state")


@dataclass(frozen=True)
class Worth:
    """How much a model could learn from a study; the shares as in the module docstring."""

    exam: float
    lesions: float
    slices: float
    heads: float

    @property
    def worth(self) -> float:
        return (self.exam + self.lesions + self.slices + self.heads) / 4


def suggest(
    reports: Path, out: Path, every: bool = False
) -> tuple[list[dict[str, Any]], list[DataError]]:
    """Rank studies by worth, highest first, and write them as a table.

    Args:
        reports: output folder of ``pe-unified infer`` or ``pe-unified batch``.
        out: the CSV file.
        every: also rank studies that were already read.

    Returns:
        The rows of the table, and the errors of the reports that are left out.

    Raises:
        DataError: no such folder.
    """
    states = ReviewStore(reports).states()
    described, faults = find_reports(reports)
    rows = []
    for study, report in track(described.items(), "reading reports"):
        if every or states.get(study) == "unread":
            try:
                with complete(report.folder / REPORT):
                    found = worth_of(report.read())
            except DataError as fault:
                faults.append(fault)
                continue
            shares = {"worth": found.worth, **asdict(found)}
            folder = report.folder.relative_to(reports).as_posix()
            row = {"study": study, "folder": folder, "state": states.get(study)}
            rows.append(row | {name: round(value, 4) for name, value in shares.items()})
    rows.sort(key=lambda row: (-row["worth"], row["study"]))
    ranked = [{"rank": rank, **row} for rank, row in enumerate(rows, start=1)]
    write_text(out, csv_text(_COLUMNS, ranked))
    return ranked, faults


def worth_of(report: Mapping[str, Any]) -> Worth:
    """How much a model could learn from a study.

    Args:
        report: the content of ``report.json``.
    """
    exam = [(report["exam"]["probability"], report["exam"]["threshold"])]
    if report["exam_model"] is not None:
        block = report["exam_model"]
        exam.append((block["score"], block["threshold"]))
    lesions = [each for each in report["lesions"] if each["can_be_clot"]]
    threshold = report["exam"]["lesion_threshold"]
    total = sum(entropy(each["score"], threshold) for each in lesions)
    weights = [moved(each["score"], threshold) for each in lesions]
    votes = [_disagreement(_votes_on_lesion(each, report)) for each in lesions]
    return Worth(
        exam=max(entropy(*pair) for pair in exam),
        lesions=total / (1 + total),
        slices=_mean(_disagreement(each) for each in _votes_on_slices(report)),
        heads=float(np.average(votes, weights=weights)) if lesions else 0.0,
    )


def moved(score: float, threshold: float | None) -> float:
    """The score shifted so that its threshold becomes 1/2; unchanged without a threshold."""
    low, high = _EDGE, 1 - _EDGE
    shift = 0.0 if threshold is None else logit(np.clip(threshold, low, high))
    return float(expit(logit(np.clip(score, low, high)) - shift))


def entropy(score: float | None, threshold: float | None) -> float:
    """Of a yes or no, in bits: 1 at the threshold, near 0 far from it; 0 without a score."""
    if score is None:
        return 0.0
    p = moved(score, threshold)
    return float((entr(p) + entr(1 - p)) / np.log(2))


def _votes_on_lesion(lesion: Mapping[str, Any], report: Mapping[str, Any]) -> list[bool]:
    """For every head of the model, whether it sees a lesion."""
    tasks, votes = report["model"]["tasks"], []
    if "cls" in tasks and lesion["slice_score"] is not None:
        votes.append(lesion["slice_score"] >= _slice_threshold(report))
    votes += [lesion["mask_score"] is not None] if "seg" in tasks else []
    votes += [lesion["box_score"] is not None] if "det" in tasks else []
    return votes


def _votes_on_slices(report: Mapping[str, Any]) -> list[list[bool]]:
    """The same for every slice that was examined and on which at least one head sees an embolus."""
    tasks, found = report["model"]["tasks"], []
    for each in report["slices"]:
        if not each["examined"]:
            continue
        votes = []
        if "cls" in tasks:
            votes.append(each["probability"] >= _slice_threshold(report))
        votes += [each["embolus_pixels"] > 0] if "seg" in tasks else []
        votes += [bool(each["boxes"])] if "det" in tasks else []
        if any(votes):
            found.append(votes)
    return found


def _slice_threshold(report: Mapping[str, Any]) -> float:
    threshold = report["thresholds"]["slice"]
    return 0.5 if threshold is None else threshold


def _disagreement(votes: Sequence[bool]) -> float:
    """The share of pairs that differ; 0 for fewer than two votes."""
    return _mean(float(one != other) for one, other in combinations(votes, 2))


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return float(np.mean(every)) if every else 0.0
