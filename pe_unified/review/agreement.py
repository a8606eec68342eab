"""Tables: how readers judge a model's findings, and how well two readers agree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from pe_unified.csv_files import csv_text
from pe_unified.evaluation.intervals import (
    Estimate,
    FloatArray,
    Scale,
    interval_ends,
    ratio,
    subset_weights,
)
from pe_unified.files import write_text
from pe_unified.review.corrected import exam_verdict
from pe_unified.review.decisions import VERDICTS, Decision
from pe_unified.review.store import ReviewStore

_COUNTS = {"accept": "accepted", "reject": "rejected", "redraw": "redrawn", "add": "added"}
_READER_COLUMNS = (
    *("reader", "studies_done", *_COUNTS.values(), "relabelled", "comments"),
    *("share_kept", "share_kept_low", "share_kept_high"),
)
_PAIR_COLUMNS = (
    *("first", "second", "level", "studies", "compared", "agreed"),
    *("kappa", "kappa_low", "kappa_high"),
)


@dataclass(frozen=True)
class Reading:
    """The decisions of one reader on one study.

    Attributes:
        decisions: those that stand.
        verdict: on the exam; None until the study is done.
        kept: for each lesion of the model that was decided on, whether it is kept.
    """

    decisions: Sequence[Decision]
    verdict: str | None
    kept: Mapping[int, bool]


def read_all(store: ReviewStore) -> dict[str, dict[str, Reading]]:
    """The decisions by reader, then by study."""
    found: dict[str, dict[str, Reading]] = {}
    for study, report in store.reports().items():
        for reader in store.readers(study):
            decisions = store.current(study, reader)
            done = store.state(study, reader) == "done"
            kept = {
                each.lesion: each.kind != "reject"
                for each in decisions
                if each.kind in VERDICTS and each.lesion is not None
            }
            verdict = exam_verdict(report.read(), decisions) if done else None
            found.setdefault(reader, {})[study] = Reading(decisions, verdict, kept)
    return dict(sorted(found.items()))


def write_agreement(out: Path, store: ReviewStore) -> None:
    """Write ``readers.csv``, ``agreement.csv`` and both as ``agreement.md``.

    Raises:
        OSError: the folder cannot be written to.
    """
    readings = read_all(store)
    readers = [_reader_row(name, own) for name, own in readings.items()]
    pairs = [
        row for one, other in combinations(readings, 2) for row in _pair_rows(readings, one, other)
    ]
    write_text(out / "readers.csv", csv_text(_READER_COLUMNS, readers))
    write_text(out / "agreement.csv", csv_text(_PAIR_COLUMNS, pairs))
    text = [
        "# What readers decided",
        "",
        "Decisions that were undone or replaced, or made on an older report, are not counted.",
        "`share kept`: of the model's lesions with a verdict, the share accepted or redrawn.",
        "",
        *_markdown(_READER_COLUMNS, readers),
        "",
        "Cohen's kappa of two readers. Exam: verdicts on studies that both finished. Lesion:",
        "whether a lesion of the model is kept, for lesions on which both decided, without added",
        "lesions. Intervals are 95 % intervals over studies (jackknife); no interval is given if",
        "leaving out a study changes nothing.",
        "",
        *_markdown(_PAIR_COLUMNS, pairs),
    ]
    write_text(out / "agreement.md", "\n".join(text) + "\n")


def cohens_kappa(tables: FloatArray) -> Estimate:
    """Agreement of two readers beyond chance (Cohen 1960), with its interval over studies.

    Undefined (NaN) if both always gave the same single answer.

    Args:
        tables: (studies, answers, answers), counts of each pair of answers, first reader by
            second reader.
    """
    if not len(tables):
        return Estimate(np.nan, np.nan, np.nan)
    weights = np.concatenate([np.ones((1, len(tables))), subset_weights(len(tables))])
    sums = np.tensordot(weights, tables, axes=1)
    total = sums.sum(axis=(1, 2))
    observed = ratio(np.trace(sums, axis1=1, axis2=2), total)
    chance = ratio((sums.sum(axis=1) * sums.sum(axis=2)).sum(axis=1), total**2)
    values = ratio(observed - chance, 1 - chance)
    low, high = _ends(values, "difference")
    return Estimate(float(values[0]), float(np.maximum(-1, low)), float(np.minimum(1, high)))


def _ends(values: FloatArray, scale: Scale) -> tuple[float, float]:
    """Ends of the interval of ``values[0]``; the others leave out one study each. NaN if leaving
    out a study changes nothing, because that tells nothing about other studies."""
    low, high = interval_ends(values[0], values[1:], scale=scale)
    return (np.nan, np.nan) if low == high else (float(low), float(high))


def _reader_row(name: str, own: Mapping[str, Reading]) -> dict[str, object]:
    counts = Counter(
        each.kind
        for reading in own.values()
        for each in reading.decisions
        if each.lesion is not None or each.kind in ("add", "comment", "relabel")
    )
    kept = np.array([[sum(r.kept.values()), len(r.kept)] for r in own.values()], np.float64)
    weights = np.concatenate([np.ones((1, len(kept))), subset_weights(len(kept))])
    shares = ratio((weights @ kept)[:, 0], (weights @ kept)[:, 1])
    low, high = _ends(shares, "share")
    return {
        "reader": name,
        "studies_done": sum(reading.verdict is not None for reading in own.values()),
        **{column: counts[kind] for kind, column in _COUNTS.items()},
        "relabelled": counts["relabel"],
        "comments": counts["comment"],
        **_rounded(share_kept=shares[0], share_kept_low=low, share_kept_high=high),
    }


def _pair_rows(
    readings: Mapping[str, Mapping[str, Reading]], one: str, other: str
) -> list[dict[str, object]]:
    """One row for exams and one for lesions."""
    both = sorted(readings[one].keys() & readings[other].keys())
    exams, lesions = [], []
    for study in both:
        first, second = readings[one][study], readings[other][study]
        if first.verdict is not None and second.verdict is not None:
            exams.append([(first.verdict, second.verdict)])
        shared = first.kept.keys() & second.kept.keys()
        if shared:
            lesions.append([(str(first.kept[n]), str(second.kept[n])) for n in shared])
    rows: list[dict[str, object]] = []
    for level, answers in (("exam", exams), ("lesion", lesions)):
        kinds = sorted({answer for own in answers for pair in own for answer in pair})
        tables = np.zeros((len(answers), len(kinds), len(kinds)))
        for table, own in zip(tables, answers, strict=True):
            for first_answer, second_answer in own:
                table[kinds.index(first_answer), kinds.index(second_answer)] += 1
        found = cohens_kappa(tables)
        rows.append(
            {
                "first": one,
                "second": other,
                "level": level,
                "studies": len(answers),
                "compared": int(tables.sum()),
                "agreed": int(np.trace(tables.sum(axis=0))) if len(tables) else 0,
                **_rounded(kappa=found.value, kappa_low=found.low, kappa_high=found.high),
            }
        )
    return rows


def _rounded(**values: float) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else round(float(value), 4) for name, value in values.items()
    }


def _markdown(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> list[str]:
    def line(cells: Sequence[object]) -> str:
        shown = ("" if each is None else str(each).replace("|", "\\|") for each in cells)
        return f"| {' | '.join(shown)} |"

    head = [name.replace("_", " ") for name in columns]
    body = [line([row[name] for name in columns]) for row in rows]
    return [line(head), line(["---"] * len(columns)), *body]
