"""Evaluation of folders of predictions against a folder of references."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pe_unified.errors import DataError, UserError, listed
from pe_unified.evaluation import bootstrap, intervals
from pe_unified.evaluation.intervals import Difference, Estimate
from pe_unified.evaluation.masks.case_files import Predicted, System
from pe_unified.evaluation.masks.case_score import CaseScore, score_case
from pe_unified.evaluation.masks.case_table import metrics_of
from pe_unified.evaluation.masks.rules import Rules
from pe_unified.evaluation.tables import index_patients
from pe_unified.paths import require_there
from pe_unified.progress import track
from pe_unified.workers import in_order, open_executor

#: Treatment of a case without a prediction.
MISSING = ("refuse", "empty", "leave-out")
#: Methods for intervals.
INTERVALS = {"bootstrap": bootstrap, "jackknife": intervals}
_PRELOAD = ("pe_unified.evaluation.masks.case_score",)
#: If more than this share of marks is outside the scans, their unit must be wrong.
_MOST_OUTSIDE = 0.5


@dataclass(frozen=True)
class SystemResult:
    """The result of one system.

    Attributes:
        scores: sorted by case name.
        missing: cases without a prediction, scored as empty.
        unmatched: names in its files that belong to no case; not scored.
        metrics: metrics with intervals over cases.
    """

    name: str
    scores: Sequence[CaseScore]
    missing: Sequence[str]
    unmatched: Sequence[str]
    metrics: Mapping[str, Estimate]

    @property
    def scored(self) -> bool:
        """Whether marks have confidences, so that there is a curve."""
        return any(score.scored for score in self.scores)


@dataclass(frozen=True)
class FolderResult:
    """The result of one system or two.

    Attributes:
        left_out: cases without a prediction that were not scored.
        damaged: cases with an unusable file, with the error; not scored for any system.
        differences: second system minus first; empty with one system.
        groups: case to group, as given.
        units: number of cases, or groups of them, that intervals are computed over.
        by: method for the intervals.
    """

    rules: Rules
    systems: Sequence[SystemResult]
    left_out: Sequence[str]
    damaged: Mapping[str, DataError]
    differences: Mapping[str, Difference] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    units: int = 0
    by: str = "bootstrap"


def evaluate_folders(
    references: Mapping[str, Path],
    systems: Sequence[System],
    rules: Rules,
    missing: str = "refuse",
    groups: Mapping[str, str] | None = None,
    workers: int = 1,
    by: str = "bootstrap",
) -> FolderResult:
    """Score one system, or two on the same cases.

    Args:
        references: file of each case.
        missing: one of :data:`MISSING`.
        groups: case to group; intervals are over groups.
        workers: number of processes.
        by: one of :data:`INTERVALS`.

    Raises:
        UserError: a prediction is missing, no case can be scored, or most marks are outside.
    """
    groups = groups or {}
    absent = {s.name: [case for case in references if case not in s.predicted] for s in systems}
    if missing == "refuse":
        _refuse_missing(absent, len(references))
    left_out: set[str] = set()
    if missing == "leave-out":
        left_out = {case for cases in absent.values() for case in cases}
    cases = sorted(case for case in references if case not in left_out)
    tasks = [
        (case, references[case], [s.predicted.get(case, s.nothing) for s in systems], rules)
        for case in cases
    ]
    scores: dict[str, list[CaseScore]] = {}
    damaged: dict[str, DataError] = {}
    with open_executor(min(workers, len(tasks)), preload=_PRELOAD) as (executor, slots):
        answers = in_order(executor, slots, _score, tasks)
        for case, answer in zip(cases, track(answers, "scoring cases", len(tasks)), strict=True):
            if isinstance(answer, DataError):
                damaged[case] = answer
            else:
                scores[case] = answer
    if not scores:
        first = next(iter(damaged.values()), None)
        raise first or UserError("no case is left to score; see --missing")
    units = index_patients(groups.get(case, case) for case in scores)[1]
    results, statistics = [], []
    for number, system in enumerate(systems):
        own = [scores[case][number] for case in scores]
        _refuse_outside(system.name, own)
        statistics.append(metrics_of(own, rules, groups))
        empty = [] if missing == "leave-out" else [c for c in absent[system.name] if c in scores]
        metrics = INTERVALS[by].estimate(statistics[-1], units)
        results.append(SystemResult(system.name, own, empty, system.unmatched, metrics))
    count = len(set(units.tolist()))
    differences = {}
    if len(statistics) > 1 and count > 1:
        differences = INTERVALS[by].paired_difference(*statistics, units)
    return FolderResult(rules, results, sorted(left_out), damaged, differences, groups, count, by)


def _score(
    case: str, reference: Path, predictions: Sequence[Predicted], rules: Rules
) -> list[CaseScore] | DataError:
    """Score one case in a worker process; an unusable file is returned as an error."""
    try:
        return score_case(case, reference, predictions, rules)
    except DataError as error:
        return error


def _refuse_missing(absent: Mapping[str, Sequence[str]], count: int) -> None:
    for name, cases in absent.items():
        if cases:
            raise UserError(
                f"{name}: no prediction for {len(cases)} of {count} cases ({listed(cases)}); add "
                "them, or say how to count them: --missing empty (nothing was found there) or "
                "--missing leave-out (not scored)"
            )


def _refuse_outside(name: str, scores: Sequence[CaseScore]) -> None:
    marks = sum(len(score.confidences) for score in scores)
    outside = sum(score.outside for score in scores)
    if outside > _MOST_OUTSIDE * marks:
        raise UserError(
            f"{name}: {outside} of {marks} marks lie outside their scans; say what their "
            "coordinates are: --mark-unit lps (mm) or --mark-unit pixel"
        )


def read_groups(path: Path, cases: Mapping[str, Path]) -> dict[str, str]:
    """Case to group, from a CSV ``case,group`` or a JSON object as used by the converters.

    Raises:
        DataError: no such file, it is unreadable, or it has an unknown case.
    """
    require_there(path)
    try:
        if path.suffix.lower() == ".json":
            found = json.loads(path.read_text(encoding="utf-8-sig"))
            groups = {str(case): str(group) for case, group in found.items()}
        else:
            with open(path, encoding="utf-8-sig", newline="") as file:
                groups = {row["case"].strip(): row["group"].strip() for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, AttributeError, csv.Error) as error:
        cure = "write a header case,group and a line for every case"
        raise DataError(path, "not a table of groups", cure, error) from error
    unknown = sorted(groups.keys() - cases.keys())
    if unknown:
        reason = f"{listed(unknown)}: not in the reference"
        raise DataError(
            path, reason, "name the cases like the files of the reference, without endings"
        )
    return groups
