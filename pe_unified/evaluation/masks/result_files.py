"""The files of an evaluation of folders: results.json, cases.csv, results.md, froc.png."""

import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table as RichTable

from pe_unified.csv_files import csv_text
from pe_unified.errors import counted, listed
from pe_unified.evaluation.figures import froc_panels_figure
from pe_unified.evaluation.in_words import difference_in_words, interval_in_words, p_in_words
from pe_unified.evaluation.intervals import Difference, Estimate, with_ends
from pe_unified.evaluation.marks import CONFIDENCES
from pe_unified.evaluation.masks.case_score import CaseScore
from pe_unified.evaluation.masks.case_table import lesion_tables
from pe_unified.evaluation.masks.folders import INTERVALS, FolderResult, SystemResult
from pe_unified.files import write_text
from pe_unified.json_files import write_json

RESULTS, CASES, SUMMARY, FROC = "results.json", "cases.csv", "results.md", "froc.png"
_TITLES = {
    "mask/dice": "Dice, mean of cases",
    "mask/dice_pooled": "Dice, pooled voxels",
    "mask/nsd": "NSD, mean of cases",
    "mask/nsd_pooled": "NSD, pooled surfaces",
    "mask/assd_mm": "ASSD, mm, mean of cases",
    "mask/assd_pooled_mm": "ASSD, mm, pooled surfaces",
    "mask/hd95_mm": "HD95, mm, mean of cases",
    "mask/volume_error_ml": "volume error, ml, mean",
    "mask/volume_error_abs_ml": "absolute volume error, ml, mean",
}
_LESION_TITLES = {
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "false_positives_per_scan": "FP per scan",
    "mean_sensitivity": "sensitivity, mean",
}


def title_of(metric: str) -> str:
    """The title of a metric."""
    if metric in _TITLES:
        return _TITLES[metric]
    group, _, name = metric.partition("/")
    what = "overlap" if group == "overlap" else f"marks, {group.removesuffix('mm')} mm"
    rate = name.removeprefix("sensitivity_at_")
    if rate != name:
        return f"{what}: sensitivity at {rate} FP per scan"
    return f"{what}: {_LESION_TITLES[name]}"


def counts_of(system: SystemResult) -> dict[str, int]:
    """Numbers of cases, lesions, marks and empty cases."""
    scores = system.scores
    masks = [score.mask for score in scores if score.mask is not None]
    emptiness = [(mask.reference == 0, mask.predicted == 0) for mask in masks]
    return {
        "cases": len(scores),
        "lesions": sum(int(score.counted.sum()) for score in scores),
        "lesions_too_small": sum(int((~score.counted).sum()) for score in scores),
        "cases_without_lesion": sum(not score.counted.any() for score in scores),
        "marks": sum(len(score.confidences) for score in scores),
        "marks_outside": sum(score.outside for score in scores),
        "missing_taken_for_empty": len(system.missing),
        "both_masks_empty": emptiness.count((True, True)),
        "reference_alone_empty": emptiness.count((True, False)),
        "prediction_alone_empty": emptiness.count((False, True)),
    }


def as_record(result: FolderResult) -> dict[str, Any]:
    """The content of ``results.json``."""
    return {
        "rules": {**vars(result.rules), "in_words": result.rules.in_words()},
        "intervals": {
            "level": 0.95,
            "by": result.by,
            "over": "groups of cases" if result.groups else "cases",
            "units": result.units,
        },
        "systems": [
            {
                "name": system.name,
                "counts": counts_of(system),
                "scored_marks": system.scored,
                "missing_taken_for_empty": list(system.missing),
                "unmatched": list(system.unmatched),
                "metrics": with_ends(system.metrics),
            }
            for system in result.systems
        ],
        "differences": {
            name: {**vars(found), "defined": not np.isnan(found.value)}
            for name, found in result.differences.items()
        },
        "left_out": list(result.left_out),
        "damaged": {case: str(error) for case, error in result.damaged.items()},
        "notes": {
            f"{system.name}, {score.case}": list(score.notes)
            for system in result.systems
            for score in system.scores
            if score.notes
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("pe_unified", "numpy", "scipy", "nibabel")},
        },
    }


def _case_rows(system: SystemResult, result: FolderResult) -> Iterator[dict[str, Any]]:
    for score in system.scores:
        yield {
            "system": system.name,
            "case": score.case,
            "group": result.groups.get(score.case),
            "missing": int(score.case in system.missing),
            **_case_metrics(score, result),
            "notes": "; ".join(score.notes) or None,
        }


def _case_metrics(score: CaseScore, result: FolderResult) -> dict[str, Any]:
    row: dict[str, Any] = {
        "lesions": int(score.counted.sum()),
        "lesions_too_small": int((~score.counted).sum()),
        "marks": len(score.confidences),
    }
    if score.mask is not None:
        mask = score.mask
        row |= {
            "dice": mask.dice,
            "nsd": mask.surface.nsd,
            "assd_mm": mask.surface.assd_mm,
            "hd95_mm": mask.surface.hd95_mm,
            "volume_error_ml": mask.volume_error_ml,
            "reference_ml": mask.reference * mask.voxel_ml,
            "predicted_ml": mask.predicted * mask.voxel_ml,
            "found_overlap": int(mask.found.sum()),
            "false_overlap": mask.false,
        }
    for epsilon in result.rules.epsilons_mm:
        near = score.distances_mm <= epsilon
        row[f"found_{epsilon:g}mm"] = int(near[:, score.counted].any(axis=0).sum())
        row[f"false_{epsilon:g}mm"] = int((~near.any(axis=1)).sum())
    rounded = {
        key: round(each, 4) if isinstance(each, float) else each for key, each in row.items()
    }
    return {key: None if each != each else each for key, each in rounded.items()}


def write_results(result: FolderResult, out: Path, note: str = "") -> None:
    """Write the four files, each atomically.

    Args:
        note: text in the footer of the figure.
    """
    write_json(out / RESULTS, as_record(result))
    rows = [row for system in result.systems for row in _case_rows(system, result)]
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "notes"))
    write_text(out / CASES, csv_text([*columns, "notes"], rows))
    write_text(out / SUMMARY, summary_text(result))
    froc_panels_figure(
        {
            system.name: lesion_tables(system.scores, result.rules, result.groups)
            for system in result.systems
        },
        out / FROC,
        scored=[system.name for system in result.systems if system.scored],
        note=note,
        by=INTERVALS[result.by],
    )


def _said(found: Estimate | Difference | None) -> str:
    """A value with its interval."""
    if found is None:
        return "undefined"
    in_words = difference_in_words if isinstance(found, Difference) else interval_in_words
    return in_words(found.value, found.low, found.high)


def counts_text(result: FolderResult) -> list[str]:
    """Lines with the numbers of cases, lesions and marks."""
    lines = []
    for system in result.systems:
        counts = counts_of(system)
        line = (
            f"{system.name}: {counted(counts['cases'], 'case')}, "
            f"{counted(counts['lesions'], 'lesion')} counted "
            f"({counts['lesions_too_small']} too small, "
            f"{counted(counts['cases_without_lesion'], 'case')} without any), "
            f"{counted(counts['marks'], 'mark')}"
        )
        for key, words in (
            ("missing_taken_for_empty", "without a prediction, taken for empty"),
            ("both_masks_empty", "with both masks empty"),
            ("reference_alone_empty", "with the reference alone empty"),
            ("prediction_alone_empty", "with the prediction alone empty"),
            ("marks_outside", "of the marks outside their scan"),
        ):
            line += f"; {counts[key]} {words}" if counts[key] else ""
        lines.append(line)
        if system.unmatched:
            lines.append(
                f"{system.name}: not scored, because they match no case: "
                f"{listed(system.unmatched)}; see --pairs"
            )
        if counts["marks"] and not system.scored:
            lines.append(
                f"{system.name}: its marks have no confidence, so there is no curve; it needs "
                f"probabilities, or a column {'/'.join(CONFIDENCES)} in the file of marks"
            )
    if result.left_out:
        lines.append(f"{counted(len(result.left_out), 'case')} without a prediction left out")
    few = INTERVALS[result.by].FEW
    if 1 < result.units < few:
        end = f"with fewer than {few}"
        line = f"jackknife intervals are wide {end}"
        if result.by == "bootstrap":
            line = f"bootstrap intervals are too narrow {end}; use --intervals jackknife"
        lines.append(f"{counted(result.units, 'group' if result.groups else 'case')}: {line}")
    return lines


def summary_text(result: FolderResult) -> str:
    """The content of ``results.md``: the table, the counts and the rules."""
    names = [system.name for system in result.systems]
    heads = [*names, "difference", "p"] if result.differences else names
    lines = [
        "# Masks and marks against a reference",
        "",
        f"Intervals of 95 % over {'groups of cases' if result.groups else 'cases'} ({result.by}). "
        "FP: false positives. Research software, not a medical device.",
        "",
        *(f"- {line}" for line in counts_text(result)),
        *(f"- damaged: {error}" for error in result.damaged.values()),
        "",
        f"| | {' | '.join(heads)} |",
        f"|---{'|---' * len(heads)}|",
        *(f"| {' | '.join(cells)} |" for cells in _table(result)),
        "",
        f"![FROC]({FROC})",
        "",
        "## Rules",
        "",
        *(f"- {rule}" for rule in result.rules.in_words()),
        "",
    ]
    if result.differences:
        pair = f"{names[1]} minus {names[0]}"
        lines.insert(4, f"Difference: {pair}, on the same cases; p is not corrected.")
        lines.insert(5, "")
    return "\n".join(lines)


def terminal_table(result: FolderResult) -> RichTable:
    """The results as a table for the terminal."""
    table = RichTable(
        "metric",
        title="against the reference, 95 % intervals",
        caption="\n".join(counts_text(result)),
        caption_justify="left",
    )
    for system in result.systems:
        table.add_column(system.name, justify="right")
    if result.differences:
        table.add_column("difference", justify="right")
        table.add_column("p", justify="right")
    for cells in _table(result):
        table.add_row(*cells)
    return table


def _table(result: FolderResult) -> Iterator[list[str]]:
    """Rows: title, one cell per system, the difference and its p."""
    for name in dict.fromkeys(name for system in result.systems for name in system.metrics):
        cells = [_said(system.metrics.get(name)) for system in result.systems]
        if result.differences:
            found = result.differences.get(name)
            cells += [_said(found), p_in_words(found.p_value if found else None)]
        yield [title_of(name), *cells]
